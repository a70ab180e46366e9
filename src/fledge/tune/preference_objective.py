"""A model and rows of pairs in, the summed preference loss out, and what there is to log of it."""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.objective import Objective
from fledge.train.world import ALONE, World
from fledge.tune.groups import BETTER
from fledge.tune.log_probs import target_log_probs
from fledge.tune.losses.kto import kto
from fledge.tune.losses.preference import LOSSES, Pairs, nll
from fledge.tune.preference_config import PreferenceLoss
from fledge.tune.segments import Sums, paired, segment_sums

LOGGED = (
    "reward_chosen",
    "reward_rejected",
    "margin",
    "accuracy",
    "logp_chosen",
    "logp_rejected",
    "length_chosen",
    "length_rejected",
    "drift",
)
"""What is logged of the answers since the last time: means.  ``margin`` and ``accuracy`` are of
pairs, ``drift`` is KTO's alone."""


class Tally:
    """Sums what is logged where it is computed; it is read, and so waited for, when asked."""

    def __init__(self, device: torch.device, world: World = ALONE) -> None:
        self._world = world
        self.sums = torch.zeros(len(LOGGED), 2, dtype=torch.float64, device=device)
        """Sum and count of each figure."""

    def figures(self) -> dict[str, float]:
        """Means since they were last asked for, of all processes; nothing that is no number."""
        totals = self._world.sums(*self.sums.flatten().tolist())
        self.sums.zero_()
        pairs = zip(LOGGED, totals[::2], totals[1::2], strict=True)
        return {name: value / count for name, value, count in pairs if count}


def of_pairs(pairs: Pairs, present: Tensor, config: PreferenceLoss) -> Tensor:
    """Sum and count of each of ``LOGGED`` over the pairs that are there.  -> (9,2) float64"""
    better, worse = LOSSES[config.loss].rewards(pairs, config)
    hits = 0.5 * (torch.sign(better - worse) + 1)  # a draw is half a hit
    rewards = [better, worse, better - worse, hits]
    sums = [pairs.chosen, pairs.rejected, pairs.chosen_length, pairs.rejected_length]
    nothing = torch.zeros_like(present)
    there = torch.stack([*[present] * 8, nothing])
    return _summed(torch.stack([*rewards, *sums, torch.zeros_like(better)]), there)


def of_judged(
    rewards: Tensor, policy: Sums, good: Tensor, present: Tensor, drift: Tensor
) -> Tensor:
    """The same of judged answers, (B,S) each; what is of pairs alone has count 0."""
    liked, disliked, nothing = present & good, present & ~good, torch.zeros_like(present)
    there = [liked, disliked, nothing, nothing, liked, disliked, liked, disliked, present]
    values, lengths = policy
    seen = [rewards, rewards, rewards, rewards, values, values, lengths, lengths]
    stacked = torch.stack([*seen, drift.expand_as(rewards)])
    return _summed(stacked.flatten(1), torch.stack(there).flatten(1))


def _summed(seen: Tensor, there: Tensor) -> Tensor:
    """Sum and count of what is there and a number.  (9,N) each -> (9,2) float64"""
    there = there & seen.isfinite()
    values = torch.where(there, seen, 0.0).double().sum(-1)
    return torch.stack([values, there.double().sum(-1)], dim=-1).detach()


def pairs_of(
    log_probs: Tensor, reference: Tensor | None, batch: Batch, most: int
) -> tuple[Pairs, Tensor]:
    """The pairs of a batch, and which of them are there, from log p of each token.  (B,T) each

    What is not there has harmless numbers: a loss of it may be computed, and must not count.
    """
    policy = segment_sums(log_probs, batch, most)
    lengths = paired(policy.lengths)
    present = (lengths[0] > 0) & (lengths[1] > 0)
    zeros = torch.zeros_like(policy.values)
    given = zeros if reference is None else segment_sums(reference, batch, most).values
    pairs = Pairs(*paired(policy.values), *paired(given), *lengths)
    safe = [torch.where(present, part, fill) for part, fill in zip(pairs, HARMLESS, strict=True)]
    return Pairs(*safe), present


HARMLESS = (-1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
"""A pair of which no loss makes anything infinite."""


def preference_objective(config: PreferenceLoss, most: int, tally: Tally) -> Objective:
    """The summed loss of the pairs, ``config.loss`` with ``config.sft_weight`` of plain NLL.

    ``batch.signals[..., 0]`` is the reference's log p of each target.
    """
    loss = LOSSES[config.loss]

    def objective(model: Decoder, batch: Batch) -> Tensor:
        reference = batch.signals[..., 0] if batch.signals is not None else None
        pairs, present = pairs_of(target_log_probs(model, batch), reference, batch, most)
        losses = loss.value(pairs, config)
        if config.sft_weight:
            losses = losses + config.sft_weight * nll(pairs)
        tally.sums.add_(of_pairs(pairs, present, config))
        return torch.where(present, losses, 0.0).sum()

    return objective


def kto_objective(config: PreferenceLoss, most: int, tally: Tally) -> Objective:
    """The summed KTO loss of answers that were judged one by one.

    ``batch.signals[..., 0]`` is the reference's log p of each target, ``[..., 1]`` the drift.
    """

    def objective(model: Decoder, batch: Batch) -> Tensor:
        assert batch.signals is not None
        reference, drift = batch.signals.unbind(-1)  # (B,T) each
        policy = segment_sums(target_log_probs(model, batch), batch, most)
        log_ratios = policy.values - segment_sums(reference, batch, most).values  # (B,S)
        marks = (batch.segments % 2 == BETTER).to(drift.dtype)
        present = policy.lengths > 0
        good = segment_sums(marks, batch, most).values > 0
        losses = kto(log_ratios, good, drift[:, :1], config)
        rewards = config.strength * log_ratios
        tally.sums.add_(of_judged(rewards, policy, good, present, drift[:, :1]))
        return torch.where(present, losses, 0.0).sum()

    return objective
