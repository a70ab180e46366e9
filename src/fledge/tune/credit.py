"""Rewards of answers in, what each of their tokens is credited with out.  Pure."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fledge.tune.experience import Experience, Floats
from fledge.tune.losses.advantages import Baseline, gae, group_advantages, has_signal, whiten
from fledge.tune.losses.policy import kl_estimate
from fledge.tune.reinforce_config import PpoConfig, ReinforceConfig


def credit_groups(
    experience: Experience, config: ReinforceConfig, baseline: Baseline, kl_weight: float
) -> None:
    """The advantage of each answer among its group, at each of its tokens."""
    rewards = torch.from_numpy(experience.rewards).double()
    if config.kl_in == "reward" and kl_weight:
        charged = _token_kl(experience, config)
        sums = np.add.reduceat(charged.astype(np.float64), experience.starts)
        rewards = rewards - kl_weight * torch.from_numpy(sums)
    advantages = group_advantages(rewards.view(-1, config.group), baseline).flatten()
    experience.signals["advantage"] = experience.spread(advantages.float().numpy())


def credit_tokens(experience: Experience, config: PpoConfig, kl_weight: float) -> None:
    """Advantage and return of each drawn token by GAE; the reward comes with the last one."""
    drawn = np.flatnonzero(experience.learnt)
    counts = experience.drawn_tokens()
    mask = _padded(np.ones(len(drawn), np.float32), counts)
    values = _padded(experience.signals["value"][drawn], counts)
    rewards = torch.zeros_like(values)
    if config.kl_in == "reward" and kl_weight:
        rewards -= kl_weight * _padded(_token_kl(experience, config)[drawn], counts)
    last = torch.from_numpy(counts - 1).clamp(min=0)
    rewards[torch.arange(len(counts)), last] += torch.from_numpy(experience.rewards)
    advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
    # Where all answers earn the same, what is left is the critic's noise: it is not blown up.
    teaches = bool(has_signal(torch.from_numpy(experience.rewards)[None]))
    if config.whiten and teaches and mask.sum() > 1:
        advantages = whiten(advantages, mask)
    for name, found in (("advantage", advantages), ("return", returns)):
        experience.signals[name] = np.zeros(len(experience.ids), np.float32)
        experience.signals[name][drawn] = found[mask > 0].numpy()


def token_weights(experience: Experience, config: ReinforceConfig) -> Floats:
    """How much each token counts in the loss: (M)."""
    weights = experience.learnt.astype(np.float32)
    if config.normalise == "answer":
        weights /= experience.spread(np.maximum(experience.drawn_tokens(), 1).astype(np.float32))
    if config.normalise == "constant":
        weights /= config.max_new_tokens
    if config.mask_truncated:
        weights *= 1.0 - experience.spread(experience.truncated.astype(np.float32))
    return weights


def _token_kl(experience: Experience, config: ReinforceConfig) -> Floats:
    """KL to the reference at each drawn token; 0 at the others."""
    signals = experience.signals
    difference = torch.from_numpy(signals["old"] - signals["reference"])
    found: Floats = kl_estimate(difference, config.kl_estimator).numpy()
    return found * experience.learnt


def _padded(values: Floats, counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
    """Numbers of drawn tokens, answer by answer, as rows (N,T)."""
    width = max(1, int(counts.max()))
    rows = torch.zeros(len(counts), width)
    rows[torch.arange(width)[None] < torch.from_numpy(counts)[:, None]] = torch.from_numpy(values)
    return rows
