"""The loss of next-token prediction, as a sum: stages divide by what they count."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.linear_cross_entropy import linear_cross_entropy

Objective = Callable[[Decoder, Batch], Tensor]
"""(model, micro-batch) -> the summed loss, a scalar; the loop divides by ``Training.count``."""

MEASURED = 1024
"""Tokens whose logits exist at once where losses are measured."""


def token_losses(model: Decoder, batch: Batch) -> Tensor:
    """-log p(target) at each position, in nats.  (B,T) batch -> (B,T) float32

    To measure by; here, too, the full logits never exist.
    """
    hidden = model.hidden(batch.ids, batch.segments).flatten(0, 1)  # (B·T,D)
    pieces = zip(hidden.split(MEASURED), batch.targets.flatten().split(MEASURED), strict=True)
    losses = [F.cross_entropy(model.logits(h), t, reduction="none") for h, t in pieces]
    return torch.cat(losses).view(batch.targets.shape)


def cross_entropy(z_loss: float = 0.0) -> Objective:
    """Weighted sum of token losses, plus ``z_loss`` x log(Z)^2 (arXiv:2204.02311, 5).

    The sum, not the mean: the loop divides the gradient by the weights of the *whole* step, so
    micro-batches of unequal weight add up to exactly the big batch.
    """

    def objective(model: Decoder, batch: Batch) -> Tensor:
        return summed_loss(model, model.hidden(batch.ids, batch.segments), batch, z_loss)

    return objective


def summed_loss(model: Decoder, hidden: Tensor, batch: Batch, z_loss: float = 0.0) -> Tensor:
    """The loss of ``cross_entropy`` from hidden states (B,T,D); the full logits never exist."""
    return linear_cross_entropy(
        hidden.flatten(0, 1),
        model.head,
        batch.targets.flatten(),
        batch.weights.flatten(),
        z_loss=z_loss,
        softcap=model.config.logit_softcap,
    )
