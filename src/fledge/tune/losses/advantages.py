"""Rewards in, how much better than expected each answer or token was out.  Pure."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["group", "mean", "leave_one_out", "none"]

SMALLEST = 1e-4
"""Added to the standard deviation of a group's rewards."""


def group_advantages(rewards: Tensor, baseline: Baseline) -> Tensor:
    """rewards (P,G): G answers to each of P prompts -> advantages (P,G).

    "group": (r - mean) / (std + 1e-4), of the group (GRPO, arXiv:2402.03300, 4.1.2).
    "mean": r - mean: hard and easy prompts are not weighed more (Dr. GRPO, arXiv:2503.20783, 3.2).
    "leave_one_out": r - mean of the others (RLOO, arXiv:2402.14740, eq. 8).
    "none": r (REINFORCE).
    """
    if baseline == "none":
        return rewards.clone()
    group = rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdim=True)
    if baseline == "mean":
        return centred
    if baseline == "leave_one_out":  # r - (sum - r) / (G - 1)
        return centred * (group / (group - 1))
    return centred / (rewards.std(1, keepdim=True) + SMALLEST)


def has_signal(rewards: Tensor) -> Tensor:
    """Whether the answers to a prompt differ in reward: (P,G) -> (P) bool.

    Where they do not, no answer is better than another and nothing can be learnt
    (arXiv:2503.14476, 3.2).
    """
    spread: Tensor = rewards.amax(1) - rewards.amin(1)
    return spread > 1e-6


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (arXiv:1506.02438, eq. 16): all (N,T), right-padded.

    delta_t = r_t + gamma V_{t+1} - V_t;  A_t = delta_t + gamma lam A_{t+1};  return = A + V.
    values (N,T) are of the state before each token; behind the last one of ``mask`` they are 0.
    """
    rewards, values = rewards * mask, values * mask
    following = torch.zeros_like(values[:, 0])
    advantage = torch.zeros_like(following)
    found = torch.empty_like(values)
    for t in range(values.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        found[:, t] = advantage
        following = values[:, t]
    return found, found + values


def whiten(values: Tensor, mask: Tensor, *, shift: bool = True) -> Tensor:
    """Mean 0 and variance 1 over ``mask``, or the mean kept where not ``shift``; (N,T) -> (N,T)."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    spread = ((values - mean).square() * mask).sum() / (count - 1).clamp(min=1)
    white = (values - mean) * torch.rsqrt(spread + 1e-8)
    return white if shift else white + mean


def overlong_penalty(length: int, longest: int, margin: int) -> float:
    """0 until ``margin`` tokens before ``longest``, then down to -1 (arXiv:2503.14476, eq. 13)."""
    if not margin:
        return 0.0
    return max(-1.0, min(0.0, (longest - margin - length) / margin))
