"""The KL measured in a rollout in, the weight of the next one's KL out.  Pure."""

from __future__ import annotations

LIMIT = 0.2
"""The largest relative error that counts."""


def adapted_weight(
    weight: float, measured: float, target: float, answers: int, horizon: float
) -> float:
    """The weight that leads KL towards ``target`` nats an answer (arXiv:1909.08593, 2.2).

    weight x (1 + clip(KL / target - 1, +-0.2) x answers / horizon): within ``horizon`` answers
    it changes by a fifth of itself at most.
    """
    error = max(-LIMIT, min(LIMIT, measured / target - 1.0))
    return weight * (1.0 + error * answers / horizon)
