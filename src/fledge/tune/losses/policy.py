"""Log-probabilities and advantages in, the losses of policy and value out.  Pure."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k2", "k3"]

LARGEST = 20.0
"""Bounds log ratios before they are raised: e^20 is no ratio that teaches anything."""


def policy_loss(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float, cap: float | None = None
) -> Tensor:
    """-min(r A, clip(r, 1 - low, 1 + high) A) of each token (arXiv:1707.06347, eq. 7).

    log_ratio: log p - log p_old, any shape; advantages of the same -> the same.  ``high`` above
    ``low`` is clip-higher (arXiv:2503.14476, eq. 10); ``cap`` bounds the ratio where the
    advantage is negative, too (dual clip, arXiv:1912.09729, eq. 5).
    """
    ratio = log_ratio.clamp(max=LARGEST).exp()
    clipped = ratio.clamp(1.0 - low, 1.0 + high)
    if cap is not None:
        ratio = ratio.clamp(max=cap)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def is_clipped(log_ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """Whether a token's gradient was cut off: its ratio went as far as its advantage asked."""
    ratio = log_ratio.clamp(max=LARGEST).exp()
    return ((ratio > 1.0 + high) & (advantages > 0)) | ((ratio < 1.0 - low) & (advantages < 0))


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the squared error of each value, the greater of plain and clipped; all of one shape.

    The clipped value stays within ``clip`` of the one before the updates (arXiv:1707.06347's
    code, described in arXiv:2005.12729, 3).
    """
    plain = (values - returns).square()
    if clip is None:
        return 0.5 * plain
    near = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (near - returns).square())


def kl_estimate(difference: Tensor, kind: KlEstimator) -> Tensor:
    """KL(policy || reference) at each drawn token, from log p - log p_reference.

    With r = p_reference / p of a token drawn from the policy: k1 = -log r is without bias and may
    be negative; k2 = (log r)^2 / 2 is biased, its gradient is not; k3 = r - 1 - log r is without
    bias and never negative (Schulman 2020, "Approximating KL divergence"; arXiv:2402.03300, eq. 4).
    """
    if kind == "k1":
        return difference
    if kind == "k2":
        return 0.5 * difference.square()
    return (-difference).clamp(max=LARGEST).exp() - 1.0 + difference


def summed_by_answer(values: Tensor, answers: Tensor) -> Tensor:
    """Each token's value becomes the sum over its answer: values (N), answers (N) int64 -> (N).

    With it ``policy_loss`` takes an answer for one action (arXiv:2402.14740, eq. 7).
    """
    _, index = torch.unique(answers, return_inverse=True)
    sums = torch.zeros_like(values).index_add(0, index, values)
    return sums[index]
