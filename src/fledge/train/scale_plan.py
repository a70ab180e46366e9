"""A ladder's config and the data it will read in, the runs to train out.  Pure, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.metrics.scaling import OPERATIONS
from fledge.model.config import ModelConfig, derive
from fledge.train.config import PretrainConfig
from fledge.train.plan import plan
from fledge.train.scale_config import ScaleConfig, Size

FEWEST_STEPS = 8
"""A run of fewer steps is mostly warm-up."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One run of the ladder: its shape, N parameters (embedding included), D tokens."""

    depth: int
    width: int
    parameters: int
    tokens: int
    held_out: bool = False

    @property
    def name(self) -> str:
        """Names its folder."""
        return f"{self.depth}x{self.width}-{self.tokens}"

    @property
    def flops(self) -> float:
        """6 N D."""
        return OPERATIONS * self.parameters * self.tokens

    def config(self, ladder: ScaleConfig) -> PretrainConfig:
        """The run's own config; raises InputError when shape and settings do not agree."""
        values: dict[str, Any] = {
            **ladder.pretrain.model_dump(exclude_unset=True),
            "tied": ladder.pretrain.tied,
            "depth": self.depth,
            "width": self.width,
            "tokens": self.tokens,
            "seed": ladder.seed,
        }
        return parse_config(PretrainConfig, values, f"fledge scale, run {self.name}")


def plan_ladder(config: ScaleConfig, vocab_size: int, available: int) -> tuple[list[Rung], Rung]:
    """The runs to fit, in order of their operations, and the held-out one.

    ``available``: training tokens there are.  Raises InputError for runs of too few steps.
    """
    sizes = {size: shape(size, config, vocab_size).parameters for size in config.sizes}
    held = shape(config.held_out, config, vocab_size).parameters
    lengths, held_tokens = _lengths(config, sum(sizes.values()), held)
    runs = [
        Rung(depth=size[0], width=size[1], parameters=parameters, tokens=tokens)
        for size, parameters in sizes.items()
        for tokens in lengths
    ]
    last = Rung(
        depth=config.held_out[0],
        width=config.held_out[1],
        parameters=held,
        tokens=held_tokens,
        held_out=True,
    )
    for rung in (*runs, last):
        _check_steps(rung, config, vocab_size, available)
    return sorted(runs, key=lambda rung: (rung.flops, rung.name)), last


def shape(size: Size, config: ScaleConfig, vocab_size: int) -> ModelConfig:
    """The model of a (layers, width)."""
    settings = config.pretrain
    return derive(size[0], vocab_size, settings.context, width=size[1], tied=settings.tied)


def nearest_depth(parameters: float, config: ScaleConfig, vocab_size: int) -> ModelConfig:
    """The model whose ``depth`` alone comes nearest to so many parameters."""
    settings = config.pretrain
    best = derive(1, vocab_size, settings.context, tied=settings.tied)
    while True:
        deeper = derive(best.depth + 1, vocab_size, settings.context, tied=settings.tied)
        if abs(math.log(deeper.parameters / parameters)) > abs(
            math.log(best.parameters / parameters)
        ):
            return best
        best = deeper


def _lengths(config: ScaleConfig, parameters: int, held: int) -> tuple[list[int], int]:
    """Tokens of the ladder's runs, ascending, and of the held-out one."""
    if config.tokens is not None:
        wanted = [float(tokens) for tokens in config.tokens]
    else:
        longest = max(config.horizons)
        fixed = OPERATIONS * held * (config.held_out_tokens or 0)
        relative = parameters * sum(config.horizons)
        relative += 0 if config.held_out_tokens else held * longest
        unit = max(config.flops - fixed, 0.0) / (OPERATIONS * relative)
        wanted = [unit * horizon for horizon in config.horizons]
    lengths = sorted(max(1, round(tokens)) for tokens in wanted)
    return lengths, config.held_out_tokens or lengths[-1]


def _check_steps(rung: Rung, config: ScaleConfig, vocab_size: int, available: int) -> None:
    own = rung.config(config)
    steps = plan(own, shape((rung.depth, rung.width), config, vocab_size), available).steps
    if steps < FEWEST_STEPS:
        raise InputError(
            f"run {rung.name} of the ladder has {steps} steps only",
            remedy="raise flops (or tokens), or lower pretrain.batch_rows or pretrain.context",
        )
