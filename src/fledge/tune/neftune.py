"""NEFTune (arXiv:2310.05914): an objective in, the same with noisy embeddings out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.objective import Objective


def noisy(objective: Objective, alpha: float, seed: int) -> Objective:
    """``objective`` of the model whose embeddings carry noise; alone where ``alpha`` is 0."""
    if not alpha:
        return objective

    def with_noise(model: Decoder, batch: Batch) -> Tensor:
        noise = alpha * uniform_noise(batch.segments, model.config.width, seed)
        noise = noise / (segment_lengths(batch.segments) * model.config.width).sqrt()[..., None]
        return objective(_Noisy(model, noise), batch)  # type: ignore[arg-type]

    return with_noise


class _Noisy:
    """A decoder that adds ``noise`` (B,T,D) to what it embeds."""

    def __init__(self, model: Decoder, noise: Tensor) -> None:
        self._model, self._noise = model, noise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def hidden(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """As ``Decoder.hidden``."""
        embedded = self._model.embed(ids)
        noise = self._noise.to(embedded.dtype)
        return self._model.hidden(ids, segments, embedded=embedded + noise)


def segment_lengths(segments: Tensor) -> Tensor:
    """How many tokens the segment of each position has: (B,T) -> (B,T) float32.

    The noise is scaled by alpha / sqrt(L D): L is the length of the conversation, not of the row
    that it shares with others.
    """
    new = torch.ones_like(segments)
    new[:, 1:] = (segments[:, 1:] != segments[:, :-1]).long()
    number = new.cumsum(1) - 1  # (B,T): 0, 1, … along the row
    counts = torch.zeros_like(segments).scatter_add(1, number, torch.ones_like(number))
    return counts.gather(1, number).float()


def uniform_noise(segments: Tensor, width: int, seed: int) -> Tensor:
    """Uniform noise in [-1, 1): segments (B,T) -> (B,T,width) float32.

    A pure function of the segment's number (which the loader never gives twice), the place in the
    row and the dimension: the same however a batch is cut up, resumed or compiled.
    """
    place = torch.arange(segments.shape[1], device=segments.device)
    dimension = torch.arange(width, device=segments.device)
    key = _mix((segments & MASK) ^ _mix(((segments >> 31) + 1 + seed) & MASK))  # (B,T)
    key = _mix(key + place[None, :] * 40_503)
    bits = _mix(key[..., None] + dimension * 48_271)  # (B,T,D)
    return bits.float() * (2.0 / (MASK + 1)) - 1.0


MASK = (1 << 31) - 1


def _mix(x: Tensor) -> Tensor:
    """Bits well mixed, 31 of them: multiply and fold, twice; products stay below 2^63."""
    x = x & MASK
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK
    x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & MASK
    return x ^ (x >> 16)
