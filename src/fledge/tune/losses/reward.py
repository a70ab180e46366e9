"""Scores of answers or of their steps in, a loss for each out.  Pure."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(
    chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, centre: float = 0.0
) -> Tensor:
    """-log s(chosen - rejected - margin) + centre (chosen + rejected)^2, for each pair.

    Bradley and Terry (1952) as in arXiv:2203.02155, eq. 1; by how much the chosen answer should
    be ahead: arXiv:2307.09288, eq. 2; scores drawn to mean zero, which differences leave open:
    arXiv:2312.09244, eq. 2.  Scores (P,) -> (P,)
    """
    loss = -F.logsigmoid(chosen - rejected - margin)
    return loss + centre * (chosen + rejected).square() if centre else loss


def step_cross_entropy(scores: Tensor, right: Tensor) -> Tensor:
    """-y log s(score) - (1 - y) log s(-score) of each step (arXiv:2312.08935, eq. 2).

    ``right`` (N,) of 0 and 1: whether the step is right; scores (N,) -> (N,)
    """
    return F.binary_cross_entropy_with_logits(scores, right, reduction="none")
