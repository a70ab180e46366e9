"""Log-probabilities of answers judged good or bad in, a loss for each out (KTO).  Pure."""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.tune.preference_config import PreferenceLoss


def kto(log_ratios: Tensor, good: Tensor, drift: Tensor, config: PreferenceLoss) -> Tensor:
    """Kahneman-Tversky optimisation (arXiv:2402.01306, section 4.1): no pairs are needed.

    w (1 - s(b (r - z))) for a good answer, w (1 - s(b (z - r))) for a bad one, with r the
    answer's log p / p_reference in nats, s the logistic function, z the ``drift`` and w
    ``desirable_weight`` or ``undesirable_weight``.  log_ratios (N,) and good (N,) bool,
    drift a scalar or (N,) -> (N,)
    """
    sign = torch.where(good, 1.0, -1.0)
    weight = torch.where(good, config.desirable_weight, config.undesirable_weight)
    return weight * (1 - torch.sigmoid(config.strength * sign * (log_ratios - drift)))


def drift_of(mismatched: Tensor) -> Tensor:
    """z: how far the model has gone from its reference in general, >= 0, no gradient.

    The mean log p / p_reference of answers to *other* prompts (arXiv:2402.01306, section 4.1),
    an estimate of KL(p || p_reference).  mismatched (N,) nats -> a scalar
    """
    return mismatched.mean().clamp(min=0).detach()
