"""A config in, what it leaves open about rates, averages and decays out.  Pure, no torch."""

from __future__ import annotations

from fledge.train.config import LoopConfig

Rates = dict[str, tuple[float, float]]
"""Optimizer -> peak rates of the layers' matrices and of the rest, at ``WIDTH``."""

WIDTH = 256
"""The width at which tables of rates are given."""

BATCH_TOKENS = 8192
"""The tokens of a step at which tables of rates are given."""

LION_SHARE = 0.1
"""Lion's rates as a share of AdamW's: 3 to 10 times smaller (arXiv:2302.06675, 5)."""

DECAYS = {"muon": 0.2, "adamw": 0.1, "adamw8bit": 0.1, "lion": 0.1 / LION_SHARE}
"""Decay of the layers' matrices when none is given, times the rate."""


EPS = 1e-8
"""What AdamW adds to its root mean square."""

SEEN = 0.08
"""The same for the embedding and the output matrix, times the tokens of a batch (at least 8,192).

The gradient of the row of a token that the data does not hold is its probability, about, and
always of one sign: at 1e-8 AdamW moves it by a whole rate even when that is 1e-7.  A token met
once in a batch has a gradient of 1 / tokens.
"""


PRETRAINING: Rates = {"muon": (0.01, 0.016), "adamw": (0.0015, 0.004)}
"""Peak rates of pretraining."""

CONTINUED = 0.5
"""Share of the rates of a fresh start when training goes on from a checkpoint."""


def peak_rates(
    config: LoopConfig, table: Rates, width: int, *, batch_tokens: int = BATCH_TOKENS
) -> tuple[float, float]:
    """Peak rates of the layers' matrices and of the rest: as configured, or from ``table``.

    Rates of AdamW and Lion shrink as 1/sqrt(width / 256), Muon's suit any width.  All grow with
    the root of the batch (arXiv:2205.10287), Lion's and 8-bit AdamW's follow AdamW's.
    """
    matrix, other = table["muon" if config.optimizer == "muon" else "adamw"]
    share = (batch_tokens / BATCH_TOKENS) ** 0.5
    share *= LION_SHARE if config.optimizer == "lion" else 1.0
    shrink = (WIDTH / width) ** 0.5
    if config.optimizer != "muon":
        matrix *= shrink
    return (
        config.learning_rate or matrix * share,
        config.embedding_learning_rate or other * share * shrink,
    )


def betas_of(config: LoopConfig) -> tuple[float, float]:
    """The averages of AdamW or Lion."""
    return config.betas or ((0.9, 0.99) if config.optimizer == "lion" else (0.9, 0.95))


def eps_of(config: LoopConfig, group: str, batch_tokens: int) -> float:
    """What AdamW adds to the root mean square of the gradients of a group of weights."""
    if config.eps is not None:
        return config.eps
    rare = group in ("embedding", "output")
    return SEEN / max(batch_tokens, BATCH_TOKENS) if rare else EPS


def weight_decays(config: LoopConfig) -> dict[str, float]:
    """The decay of each group of weights."""
    decay = DECAYS[config.optimizer]
    return {
        "matrices": decay if config.weight_decay is None else config.weight_decay,
        "embedding": config.embedding_weight_decay,
        "output": config.output_weight_decay,
        "vectors": config.vector_weight_decay,
    }
