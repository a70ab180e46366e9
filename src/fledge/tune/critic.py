"""A model that is to be trained in; the same with a critic that says what reward to expect out.

The critic is saved, resumed and trained with the model, as a part that ``APART`` names, and taken
off before the model is written.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fledge.engine.handover import APART as APART
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.optimizers import build_optimizers
from fledge.tune.reinforce_config import PpoConfig

HEAD_SHARE = 10.0
"""Rate of the head alone, as a multiple of the model's: it begins at 0."""


def attach_critic(model: Decoder, kind: Literal["own", "shared"], trunk: Decoder | None) -> None:
    """Give the model a value head, and for "own" a trunk of its own; values begin at 0."""
    head = nn.Linear(model.config.width, 1, device=model.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.value_head = head
    if kind == "own":
        assert trunk is not None
        model.critic = trunk.train()


def detach_critic(model: Decoder) -> None:
    """The model alone."""
    for name in ("value_head", "critic"):
        if hasattr(model, name):
            delattr(model, name)


def critic_optimizers(
    model: Decoder, config: PpoConfig, matrix_rate: float, other_rate: float
) -> list[Optimizer]:
    """The optimizers of the critic's weights."""
    share = 1.0
    if config.critic_learning_rate is not None:
        share = config.critic_learning_rate / matrix_rate
    head = model.value_head
    rate = matrix_rate * share * (1.0 if config.critic_learning_rate else HEAD_SHARE)
    found: list[Optimizer] = [
        torch.optim.AdamW(head.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    ]
    for group in found[0].param_groups:
        group["peak"], group["name"] = rate, "value_head"
    if hasattr(model, "critic"):
        found += build_optimizers(
            model.critic,
            config.model_copy(update={"ema": None}),
            matrix_rate=matrix_rate * share,
            other_rate=other_rate * share,
        )
    return found


def values_of(model: Decoder, batch: Batch, counts: Tensor, states: Tensor) -> Tensor:
    """The value of the state before each target that counts: (N) float32.

    ``states`` (N,D): what the model's own trunk makes of them.
    """
    if hasattr(model, "critic"):
        states = model.critic.hidden(batch.ids, batch.segments)[counts]
    head = model.value_head
    values: Tensor = head(states.float()).squeeze(-1)
    return values


@torch.no_grad()
def score_values(model: Decoder, batch: Batch, rows: int) -> Tensor:
    """The value before every target that counts, 0 elsewhere: (B,T) float32, on the CPU."""
    found = torch.zeros(batch.targets.shape)
    for number, piece in enumerate(batch.micro(rows)):
        if not piece.weights.any():
            continue
        there = piece.to(model.device)
        counts = there.weights > 0
        trunk = model.critic if hasattr(model, "critic") else model
        states = trunk.hidden(there.ids, there.segments)[counts]
        values = model.value_head(states.float()).squeeze(-1)
        found[number * rows : (number + 1) * rows][piece.weights > 0] = values.cpu()
    return found
