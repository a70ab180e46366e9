"""The loss of next-token prediction, as a sum: stages divide by what they count."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch

Objective = Callable[[Decoder, Batch], Tensor]
"""(model, micro-batch) -> the summed loss, a scalar; the loop divides by the summed weights."""


def token_losses(model: Decoder, batch: Batch) -> Tensor:
    """-log p(target) at each position, in nats.  (B,T) batch -> (B,T) float32"""
    logits = model.logits(model.hidden(batch.ids, batch.segments))  # (B,T,V)
    losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
    return losses.view(batch.targets.shape)


def cross_entropy(z_loss: float = 0.0) -> Objective:
    """Weighted sum of token losses, plus ``z_loss`` x log(Z)^2 (arXiv:2204.02311, 5).

    The sum, not the mean: the loop divides the gradient by the weights of the *whole* step, so
    micro-batches of unequal weight add up to exactly the big batch.  Logits exist for one
    micro-batch at a time, which bounds memory as a chunked loss would, at no cost in time.
    """

    def objective(model: Decoder, batch: Batch) -> Tensor:
        logits = model.logits(model.hidden(batch.ids, batch.segments)).flatten(0, 1)  # (BT,V)
        losses = F.cross_entropy(logits, batch.targets.flatten(), reduction="none")
        if z_loss:
            losses = losses + z_loss * logits.logsumexp(-1).square()
        return (losses * batch.weights.flatten()).sum()

    return objective
