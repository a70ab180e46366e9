"""The learning rate over a run: step in, share of the peak rate out.  Pure."""

from __future__ import annotations

import math

from fledge.train.config import LoopConfig


def rate_factor(step: int, steps: int, config: LoopConfig) -> float:
    """Share of the peak rate at ``step`` (0-based) of ``steps``, in (0, 1].

    Linear warm-up; then "wsd" (arXiv:2405.18392) holds and falls, in a line or as 1 - sqrt;
    "linear" and "cosine" fall at once, "constant" stays.  The last step gets ``final_rate``.
    """
    warm, falling = phases(steps, config)
    if step < warm:
        return (step + 1) / (warm + 1)
    start, length = steps - falling, falling - 1
    if step < start or length <= 0:
        return 1.0
    fallen = (step - start) / length  # 0..1
    if config.schedule == "cosine":
        fallen = (1 - math.cos(math.pi * fallen)) / 2
    elif config.schedule == "wsd" and config.cooldown == "1-sqrt":
        fallen = math.sqrt(fallen)
    return 1.0 - (1.0 - config.final_rate) * fallen


def phases(steps: int, config: LoopConfig) -> tuple[int, int]:
    """Steps of the warm-up, and of the fall at the end, of a run of ``steps``."""
    asked = config.warmup_steps
    warm = min(steps, round(config.warmup * steps) if asked is None else asked)
    if config.schedule == "constant":
        return warm, 0
    falling = round(config.decay * steps) if config.schedule == "wsd" else steps
    return warm, min(falling, steps - warm)
