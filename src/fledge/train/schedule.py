"""The learning rate over a run: step in, share of the peak rate out.  Pure."""

from __future__ import annotations

import math

from fledge.train.config import LoopConfig


def rate_factor(step: int, steps: int, config: LoopConfig) -> float:
    """Share of the peak rate at ``step`` (0-based) of ``steps``, in (0, 1].

    Linear warm-up; then "wsd" (arXiv:2405.18392) holds and falls linearly, "linear" and "cosine"
    fall at once, "constant" stays.  The last step gets ``final_rate``.
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    start = steps - round(config.decay * steps) if config.schedule == "wsd" else warm
    length = steps - 1 - start
    if step < start or length <= 0:
        return 1.0
    fallen = (step - start) / length  # 0..1
    if config.schedule == "cosine":
        fallen = (1 - math.cos(math.pi * fallen)) / 2
    return 1.0 - (1.0 - config.final_rate) * fallen
