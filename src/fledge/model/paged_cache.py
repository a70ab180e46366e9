"""Keys and values in blocks of fixed size: sequences share blocks and grow without moving."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fledge.model.config import ModelConfig


class PagedCache:
    """``blocks`` blocks of ``block_size`` positions for all layers; who has which is not its
    business (vLLM, arXiv:2309.06180)."""

    def __init__(
        self,
        blocks: int,
        block_size: int,
        config: ModelConfig,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        # One block more than asked: what nobody may see lies there.
        slots = (blocks + 1) * block_size
        shape = (config.depth, slots, config.kv_heads, config.head_size)
        self.block_size = block_size
        self.keys, self.values = (_zeros(shape, dtype, torch.device(device)) for _ in range(2))

    def copy_block(self, source: int, target: int) -> None:
        """Overwrite a block with another, in all layers."""
        for memory in (self.keys, self.values):
            memory[:, self._slots(target)] = memory[:, self._slots(source)]

    def rows(self, tables: Sequence[Sequence[int]], starts: Sequence[int], tokens: int) -> Rows:
        """A cache of rows for one forward pass: each appends ``tokens`` tokens at its start.

        tables (B) of block numbers, long enough for starts (B) + tokens positions.
        """
        return Rows(self, tables, starts, tokens)

    def _slots(self, block: int) -> slice:
        return slice(block * self.block_size, (block + 1) * self.block_size)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros whose memory, on a CPU, is taken only where something is written."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    numbers = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(numbers).view(dtype).view(shape)


class Rows:
    """What ``Decoder.hidden`` asks of a cache, over blocks of a ``PagedCache``."""

    def __init__(
        self,
        cache: PagedCache,
        tables: Sequence[Sequence[int]],
        starts: Sequence[int],
        tokens: int,
    ) -> None:
        size, device = cache.block_size, cache.keys.device
        seen = max(starts) + tokens
        width = -(-seen // size)
        spare = cache.keys.shape[1] // size - 1
        padded = [[*table[:width], *[spare] * (width - len(table))] for table in tables]
        blocks = torch.tensor(padded, device=device)  # (B,width)
        slots = blocks[:, :, None] * size + torch.arange(size, device=device)
        self.max_length = seen
        self._cache = cache
        self._slots = slots.flatten(1)[:, :seen]  # (B,S)
        begins = torch.tensor(starts, device=device)
        self._positions = begins[:, None] + torch.arange(tokens, device=device)  # (B,T)
        self._written = self._slots.gather(1, self._positions)

    def begin(self, ids: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The positions (B,T) and the mask (B,1,T,S) of the queries."""
        slots = torch.arange(self._slots.shape[1], device=ids.device)
        return self._positions, (slots <= self._positions[:, :, None]).unsqueeze(1)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember k and v (B,K,T,d); returns those of positions 0..S-1: two (B,K,S,d)."""
        found = []
        for memory, new in ((self._cache.keys[layer], k), (self._cache.values[layer], v)):
            memory[self._written] = new.transpose(1, 2).to(memory.dtype)
            found.append(memory[self._slots].transpose(1, 2).to(new.dtype))
        return found[0], found[1]

    def end(self) -> None:
        """Nothing is left to do."""
