"""A model that is to be trained in; the same with a critic that says what reward to expect out.

The critic is saved, resumed and trained with the model, as a part that ``APART`` names, and taken
off before the model is written.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

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


def head_of(model: Decoder) -> nn.Linear:
    """The value head."""
    return cast(nn.Linear, model.value_head)


def trunk_of(model: Decoder) -> Decoder | None:
    """The critic's own trunk, or None where it shares the model's."""
    return cast(Decoder, model.critic) if hasattr(model, "critic") else None


def critic_optimizers(
    model: Decoder, config: PpoConfig, matrix_rate: float, other_rate: float
) -> list[Optimizer]:
    """The optimizers of the critic's weights."""
    share, lift = 1.0, HEAD_SHARE
    if config.critic_learning_rate is not None:
        share, lift = config.critic_learning_rate / matrix_rate, 1.0
    rate = matrix_rate * share * lift
    found: list[Optimizer] = [
        AdamW(head_of(model).parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    ]
    for group in found[0].param_groups:
        group["peak"], group["name"] = rate, "value_head"
    trunk = trunk_of(model)
    if trunk is not None:
        found += build_optimizers(
            trunk,
            config.model_copy(update={"ema": None}),
            matrix_rate=matrix_rate * share,
            other_rate=other_rate * share,
        )
    return found


def values_of(model: Decoder, batch: Batch, counts: Tensor, states: Tensor | None) -> Tensor:
    """The value of the state before each target that counts: (N) float32.

    ``states`` (N,D): what the model's own trunk makes of them, where that is known.
    """
    trunk = trunk_of(model)
    if trunk is not None or states is None:
        states = (trunk or model).hidden(batch.ids, batch.segments, continues=batch.continues)
        states = states[counts]
    values: Tensor = head_of(model)(states.float()).squeeze(-1)
    return values


@torch.no_grad()
def score_values(model: Decoder, batch: Batch) -> Tensor:
    """The value before every target that counts, 0 elsewhere: (B,T) float32, on the CPU."""
    found = torch.zeros(batch.targets.shape)
    for row, piece in enumerate(batch.micro(1)):
        if not piece.weights.any():
            continue
        there = piece.trimmed().to(model.device)
        values = values_of(model, there, there.weights > 0, None)
        found[row][piece.weights[0] > 0] = values.cpu()
    return found
