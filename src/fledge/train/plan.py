"""A config, a shape and an amount of data in; everything a run derives from them out.  Pure.

What is given stands, the rest follows rules, and each value says which: see
docs/learning-rates.md for their grounds.  No torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fledge.model.config import ModelConfig
from fledge.train.config import PretrainConfig
from fledge.train.rates import (
    BATCH_TOKENS,
    CONTINUED,
    PRETRAINING,
    WIDTH,
    peak_rates,
    weight_decays,
)
from fledge.train.schedule import phases

BATCH_EXPONENT = 0.383
"""The best batch grows as this power of the horizon, whatever the model (arXiv:2505.13738)."""

BATCH_HORIZON = 5_000_000
"""Tokens of a run for which ``BATCH_TOKENS`` is the batch."""

MAX_EPOCHS = 4.0
"""Passes over the same text that teach nearly as much as fresh text does (arXiv:2305.16264)."""

GIVEN = "given"

SHAPE = ("depth", "width", "heads", "kv_heads", "ffn", "tied", "vocab_size")

DECAYS = {
    "matrices": "weight_decay",
    "embedding": "embedding_weight_decay",
    "output": "output_weight_decay",
    "vectors": "vector_weight_decay",
}
"""Group of weights -> the key of its decay."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is decided before the first step."""

    shape: ModelConfig
    context: int
    batch_rows: int
    epochs: float | None
    """Passes after which the data ends; None when steps decide."""
    tokens: int
    """Places in all batches together; some may be padding."""
    steps: int
    warmup_steps: int
    decay_steps: int
    matrix_rate: float
    other_rate: float
    weight_decays: dict[str, float]
    flops: float
    memory: int
    """Bytes of weights, gradients, states and a micro-batch's activations, roughly."""
    rules: dict[str, str]
    """Name of a value -> "given", or the rule it follows."""

    def values(self) -> dict[str, Any]:
        """Each value by its name, in the order in which they are shown."""
        decays = {key: self.weight_decays[name] for name, key in DECAYS.items()}
        return {
            **{name: getattr(self.shape, name) for name in SHAPE},
            "parameters": self.shape.parameters,
            "context": self.context,
            "batch_rows": self.batch_rows,
            "tokens": self.tokens,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "learning_rate": self.matrix_rate,
            "embedding_learning_rate": self.other_rate,
            **decays,
            "flops": self.flops,
            "memory": self.memory,
        }

    def record(self) -> dict[str, Any]:
        """``plan.json``: each value with its rule."""
        return {
            name: {"value": value, "rule": self.rules[name]}
            for name, value in self.values().items()
        }

    def lines(self) -> list[str]:
        """The plan as aligned lines: name, value, rule."""
        rows = [(name, _shown(value), self.rules[name]) for name, value in self.values().items()]
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        return [f"{name:<{first}}  {value:>{second}}  {rule}" for name, value, rule in rows]


def plan(
    config: PretrainConfig,
    shape: ModelConfig,
    available: int,
    *,
    steps: int | None = None,
    micro_tokens: int = 4096,
) -> Plan:
    """What a run of ``config`` on a model of ``shape`` and ``available`` tokens will do.

    ``steps``: as the loader counts them, when it is there (rows may hold padding).
    ``micro_tokens``: of a micro-batch when ``config`` names none; the most that CPUs take.
    """
    context = config.context
    horizon, epochs, horizon_rule = _horizon(config, shape, available)
    rows, rows_rule = _batch_rows(config, horizon, context)
    exact = config.steps or steps or max(1, math.ceil(horizon / (rows * context)))
    tokens = exact * rows * context
    warm, falling = phases(exact, config)
    rates = planned_rates(config, shape.width, rows * context)
    rules = {
        **_shape_rules(config),
        **_rate_rules(config),
        "context": GIVEN if "context" in config.model_fields_set else "default",
        "batch_rows": rows_rule,
        "tokens": horizon_rule,
        "steps": GIVEN if config.steps else "tokens / (batch_rows x context)",
        "warmup_steps": _phase_rule(config, "warmup"),
        "decay_steps": _phase_rule(config, "decay"),
        "flops": "6 per matrix weight and token, and attention",
        "memory": "bytes: weights, gradients, states, a micro-batch; roughly",
    }
    return Plan(
        shape=shape,
        context=context,
        batch_rows=rows,
        epochs=epochs,
        tokens=tokens,
        steps=exact,
        warmup_steps=warm,
        decay_steps=falling,
        matrix_rate=rates[0],
        other_rate=rates[1],
        weight_decays=weight_decays(config),
        flops=float(flops_per_token(shape, context) * tokens),
        memory=memory(config, shape, context, rows, micro_tokens),
        rules=rules,
    )


def _horizon(
    config: PretrainConfig, shape: ModelConfig, available: int
) -> tuple[int, float | None, str]:
    """Tokens to train on (0: steps decide), the epochs that end the data, the rule."""
    if config.steps is not None:
        return 0, None, "steps x batch_rows x context"
    if config.epochs is not None:
        return round(config.epochs * available), config.epochs, f"{config.epochs:g} epochs"
    ratio = config.tokens_per_parameter
    wanted = config.tokens or math.ceil(ratio * matrix_parameters(shape))
    bound = config.max_epochs or (None if config.tokens else MAX_EPOCHS)
    if bound is not None and wanted > bound * available:
        if config.tokens:
            return max(1, int(bound * available)), None, f"given, at most {bound:g} epochs"
        rule = f"{bound:g} epochs, less than {ratio:g} x matrix parameters"
        return round(bound * available), bound, rule
    return wanted, None, GIVEN if config.tokens else f"{ratio:g} x matrix parameters"


def matrix_parameters(shape: ModelConfig) -> int:
    """Weights of the matrices that multiply: those of the layers and the output."""
    return shape.depth * shape.layer_parameters + shape.vocab_size * shape.width


def _batch_rows(config: PretrainConfig, horizon: int, context: int) -> tuple[int, str]:
    """Rows of a step, a power of two times ``micro_rows``, and the rule."""
    if config.batch_rows is not None:
        return config.batch_rows, GIVEN
    if horizon:
        tokens = BATCH_TOKENS * (horizon / BATCH_HORIZON) ** BATCH_EXPONENT
    else:  # the horizon is steps x batch, which solved for the batch gives
        steps = config.steps or 1
        grown = BATCH_TOKENS * (steps / BATCH_HORIZON) ** BATCH_EXPONENT
        tokens = grown ** (1 / (1 - BATCH_EXPONENT))
    unit = config.micro_rows or 1
    power = max(0, round(math.log2(max(1.0, tokens / (context * unit)))))
    return unit * 2**power, f"{BATCH_TOKENS:,} tokens x (tokens / 5 M)^{BATCH_EXPONENT}"


def planned_rates(config: PretrainConfig, width: int, batch_tokens: int) -> tuple[float, float]:
    """Peak rates of the layers' matrices and of the rest, for this width, batch and start."""
    matrix, other = peak_rates(config, PRETRAINING, width, batch_tokens=batch_tokens)
    share = CONTINUED if config.init else 1.0
    return (
        config.learning_rate or matrix * share,
        config.embedding_learning_rate or other * share,
    )


def flops_per_token(shape: ModelConfig, context: int) -> int:
    """Operations a token of training in rows of ``context``."""
    return shape.model_copy(update={"context": context}).training_flops_per_token


def memory(
    config: PretrainConfig, shape: ModelConfig, context: int, rows: int, micro_tokens: int
) -> int:
    """Bytes of weights, gradients, states and a micro-batch's activations, roughly."""
    micro = min(rows, config.micro_rows or max(1, micro_tokens // context)) * context
    return (
        8 * shape.parameters
        + state_bytes(config, shape)
        + (4 * shape.parameters if config.ema is not None else 0)
        + micro * activation_bytes(shape, context)
    )


def state_bytes(config: PretrainConfig, shape: ModelConfig) -> int:
    """Bytes of the optimizers' states, but for a number or two a row: float32 or 8 bits."""
    inner = shape.depth * shape.layer_parameters
    other = shape.parameters - inner
    matrices = {"muon": 4, "adamw": 8, "lion": 4, "adamw8bit": 2}[config.optimizer]
    return matrices * inner + (4 if config.optimizer == "lion" else 8) * other


def activation_bytes(shape: ModelConfig, context: int) -> int:
    """Bytes a token leaves for the backward pass, roughly (arXiv:2205.05198, eq. 2), and logits."""
    layer = 34 * shape.width + 5 * shape.heads * context
    return shape.depth * layer + 8 * shape.vocab_size


def _shape_rules(config: PretrainConfig) -> dict[str, str]:
    rules = {
        "depth": "default",
        "width": "64 x depth",
        "heads": "width / 64",
        "kv_heads": "half the heads where they are even",
        "ffn": "8/3 of the width, up to a multiple of 64",
        "tied": "below 8 layers",
        "vocab_size": "of the tokens",
        "parameters": "of this shape",
    }
    if config.init:
        return dict.fromkeys(rules, "of the checkpoint")
    given = {name for name in config.model_fields_set if getattr(config, name) is not None}
    return {name: GIVEN if name in given else rule for name, rule in rules.items()}


def _rate_rules(config: PretrainConfig) -> dict[str, str]:
    """Rules of the peak rates and of the decays."""
    grown = " x sqrt(batch / 8,192 tokens)"
    continued = f" x {CONTINUED:g}, continued" if config.init else ""
    root = f"sqrt({WIDTH} / width)"
    matrix = "any width" if config.optimizer == "muon" else root
    rules = {
        "learning_rate": f"{config.optimizer}: {matrix}{grown}{continued}",
        "embedding_learning_rate": f"{root}{grown}{continued}",
        **dict.fromkeys(DECAYS.values(), "default"),
    }
    given = {name for name in rules if name in config.model_fields_set}
    given -= {name for name in given if getattr(config, name) is None}
    return {name: GIVEN if name in given else rule for name, rule in rules.items()}


def _phase_rule(config: PretrainConfig, phase: str) -> str:
    if phase == "warmup":
        return GIVEN if config.warmup_steps is not None else f"{config.warmup:g} of the steps"
    if config.schedule == "constant":
        return "constant: none"
    if config.schedule == "wsd":
        return f"{config.decay:g} of the steps, {config.cooldown}"
    return f"{config.schedule}: all after the warm-up"


def _shown(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}"
