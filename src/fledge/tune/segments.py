"""A number for each token in, sums by segment out.  Pure; shapes depend on no data.

Pair k of a loader is segments 2k (chosen) and 2k + 1 (rejected), side by side in one row; a row's
segments are counted from its left: 0, 1, 2, … are chosen, rejected, chosen, …
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fledge.train.batch import PADDING, Batch


class Sums(NamedTuple):
    """Of each segment of each row, from the left; 0 where a row has fewer.  (B,S) each."""

    values: Tensor
    lengths: Tensor
    """float32: how many of its targets count."""


def place_of(segments: Tensor) -> Tensor:
    """The number of a token's segment in its row, from the left.  (B,T) int -> (B,T) int64"""
    begins = segments[:, 1:] != segments[:, :-1]  # (B,T-1)
    return torch.nn.functional.pad(begins.long().cumsum(-1), (1, 0))


def segment_sums(values: Tensor, batch: Batch, most: int) -> Sums:
    """``values`` x weights summed over each segment.  values (B,T) -> (B,most)

    ``most``: at least as many as any row has; what follows the last one is padding, of weight 0.
    """
    # No scatter_add: torch 2.13's generated code gets several of them in one graph wrong, and on a
    # GPU their order is any.
    slots = torch.arange(most, device=values.device)[:, None]
    mine = place_of(batch.segments)[:, None, :] == slots  # (B,S,T)
    counted = (batch.weights != 0).to(values.dtype)
    return Sums(
        torch.where(mine, (values * batch.weights)[:, None, :], 0.0).sum(-1),
        torch.where(mine, counted[:, None, :], 0.0).sum(-1),
    )


def paired(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Chosen and rejected of each place for a pair.  (B,2P) -> (B·P,) and (B·P,)"""
    return sums[:, 0::2].flatten(), sums[:, 1::2].flatten()


def count_segments(batch: Batch) -> int:
    """How many segments a batch has, padding aside."""
    first = torch.ones_like(batch.segments[:, :1], dtype=torch.bool)
    begins = torch.cat([first, batch.segments[:, 1:] != batch.segments[:, :-1]], dim=1)
    return int((begins & (batch.segments != PADDING)).sum())
