"""Log-probabilities of better and worse answers in, a loss for each pair out.  Pure.

One interface for all: ``LOSSES[name].value(pairs, config)``.  A new method is a function of
``Pairs`` and a row of the table.  All inputs are sums over an answer's tokens, in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fledge.tune.preference_config import PreferenceLoss

Value = Callable[["Pairs", PreferenceLoss], Tensor]


class Pairs(NamedTuple):
    """What a loss reads of P pairs; each (P,) float32."""

    chosen: Tensor
    """log p(chosen answer | prompt) of the model that learns."""
    rejected: Tensor
    reference_chosen: Tensor
    """The same of the reference; zeros for a loss that has none."""
    reference_rejected: Tensor
    chosen_length: Tensor
    """Tokens of the answer."""
    rejected_length: Tensor

    @property
    def log_ratios(self) -> tuple[Tensor, Tensor]:
        """log p / p_reference of the chosen and the rejected answers, (P,) each."""
        return self.chosen - self.reference_chosen, self.rejected - self.reference_rejected

    def divided(self) -> Pairs:
        """The same with every sum a mean over the answer's tokens."""
        better, worse = self.chosen_length, self.rejected_length
        return self._replace(
            chosen=self.chosen / better,
            rejected=self.rejected / worse,
            reference_chosen=self.reference_chosen / better,
            reference_rejected=self.reference_rejected / worse,
        )


def dpo(pairs: Pairs, config: PreferenceLoss) -> Tensor:
    """Direct preference optimisation (arXiv:2305.18290, eq. 7); with ``label_smoothing`` cDPO.

    -(1 - e) log s(b d) - e log s(-b d), d the difference of the log-ratios, s the logistic
    function, e the share of labels believed to be wrong (arXiv:2403.00409, section 3).
    """
    better, worse = pairs.log_ratios
    return _smoothed(config.strength * (better - worse), config.label_smoothing)


def dpo_norm(pairs: Pairs, config: PreferenceLoss) -> Tensor:
    """``dpo`` of log-ratios a token, so that length is no reward (arXiv:2411.15124, eq. 6)."""
    return dpo(pairs.divided(), config)


def robust(pairs: Pairs, config: PreferenceLoss) -> Tensor:
    """Unbiased when a share e of the labels is flipped (rDPO, arXiv:2403.00409, section 3).

    (-(1 - e) log s(b d) + e log s(-b d)) / (1 - 2 e)
    """
    better, worse = pairs.log_ratios
    logits, wrong = config.strength * (better - worse), config.label_smoothing
    straight, flipped = F.logsigmoid(logits), F.logsigmoid(-logits)
    return (wrong * flipped - (1 - wrong) * straight) / (1 - 2 * wrong)


def ipo(pairs: Pairs, config: PreferenceLoss) -> Tensor:
    """(d - 1 / (2 b))^2 (IPO, arXiv:2310.12036, eq. 17), d of log-ratios a token.

    The paper does not say how answers of several lengths are weighed; its own results are of
    means over tokens, which is what TRL computes, too.
    """
    better, worse = pairs.divided().log_ratios
    return (better - worse - 1 / (2 * config.strength)).square()


def simpo(pairs: Pairs, config: PreferenceLoss) -> Tensor:
    """-log s(b d - gamma), d of log p a token, without a reference (arXiv:2405.14734, eq. 6)."""
    mean = pairs.divided()
    logits = config.strength * (mean.chosen - mean.rejected) - config.gamma
    return _smoothed(logits, config.label_smoothing)


def orpo(pairs: Pairs, config: PreferenceLoss) -> Tensor:
    """NLL of the chosen answer - b log s(log odds ratio), no reference (arXiv:2403.07691, eq. 6).

    log odds = log p - log(1 - p), with log p a mean over the answer's tokens (eq. 3).
    """
    mean = pairs.divided()
    odds = mean.chosen - mean.rejected - (_log_1m_exp(mean.chosen) - _log_1m_exp(mean.rejected))
    return -mean.chosen - config.strength * F.logsigmoid(odds)


def nll(pairs: Pairs) -> Tensor:
    """-log p of the chosen answer a token: what RPO adds (arXiv:2404.19733, eq. 2).  (P,)"""
    return -pairs.chosen / pairs.chosen_length


def _smoothed(logits: Tensor, wrong: float) -> Tensor:
    """-(1 - e) log s(logits) - e log s(-logits)"""
    loss = -(1 - wrong) * F.logsigmoid(logits)
    return loss - wrong * F.logsigmoid(-logits) if wrong else loss


def _log_1m_exp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, exact at both ends (Mächler 2012, eq. 7); at 0 as close below it."""
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -0.6931471805599453  # ln 2
    # ``where`` differentiates both sides: each gets a number that does it no harm.
    small, large = torch.where(near, x, -1.0), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))


@dataclass(frozen=True)
class Loss:
    """A method: its loss, and what it takes for the reward of an answer."""

    value: Value
    has_reference: bool = True
    by_token: bool = False
    """Whether its reward is a mean over tokens."""

    def rewards(self, pairs: Pairs, config: PreferenceLoss) -> tuple[Tensor, Tensor]:
        """The implicit rewards of chosen and rejected answers, (P,) each.

        b log p / p_reference (arXiv:2305.18290, eq. 5), without the part that depends on the
        prompt alone; b log p where there is no reference.
        """
        pairs = pairs.divided() if self.by_token else pairs
        better, worse = pairs.log_ratios if self.has_reference else (pairs.chosen, pairs.rejected)
        return config.strength * better, config.strength * worse


LOSSES: dict[str, Loss] = {
    "dpo": Loss(dpo),
    "dpo_norm": Loss(dpo_norm, by_token=True),
    "robust": Loss(robust),
    "ipo": Loss(ipo, by_token=True),
    "simpo": Loss(simpo, has_reference=False, by_token=True),
    "orpo": Loss(orpo, has_reference=False, by_token=True),
}
"""Losses of pairs by name.  KTO, which has no pairs, is in ``kto``."""
