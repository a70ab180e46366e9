"""The keys and values of tokens already read, so that decoding reads each token once."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fledge.model.config import ModelConfig


class Cache(Protocol):
    """What a forward pass asks of a cache."""

    max_length: int
    """The most positions of a row."""

    def begin(self, ids: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The positions (B,T) and the mask (B,1,T,S) of the queries."""
        ...

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember k and v (B,K,T,d); returns those of positions 0..S-1: two (B,K,S,d)."""
        ...

    def end(self) -> None:
        """The pass is over."""
        ...


class KVCache:
    """Keys and values for ``batch`` independent rows of up to ``max_length`` tokens each.

    **Slot = position.**  The token at position p of a row lies in slot p of that row; a query at
    position p sees the slots 0..p of its own row and nothing else.  So rows of different length
    are decoded together without any alignment: ``model(ids, cache=cache, positions=positions)``
    takes ``positions`` (B,T) int64, the place of every token in *its own* row, increasing along
    T.  **Position -1 means padding**: such a token is not remembered, nobody sees it, and the
    logits it gets are meaningless (but finite).  Left, right or inner padding are all the same.

    ``positions=None`` appends: row b continues at ``lengths[b]``.

    ``lengths`` (B,) int64 holds the tokens each row remembers.  A call raises it to the last
    position it wrote, plus one.  The caller may lower it: ``cache.lengths[b] = n`` forgets all
    tokens from n on (0 frees the row for another sequence).  What lies in the slots beyond a
    length is garbage that no query sees, because it is overwritten before a query reaches it.

    Typical use, with B prompts of different length::

        cache = KVCache(B, max_length, model.config, model.compute_dtype, device)
        positions = torch.where(is_token, is_token.cumsum(1) - 1, -1)  # (B,T), any padding
        logits = model(prompts, cache=cache, positions=positions)  # prefill
        logits = model(next_ids[:, None], cache=cache)  # decode one token per row
        logits = model(ids, cache=cache.rows(3, 4))  # read into row 3 alone

    Memory: 2 x depth x batch x kv_heads x (max_length + 1) x head_size numbers of ``dtype``.
    """

    def __init__(
        self,
        batch: int,
        max_length: int,
        config: ModelConfig,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        # One slot more than asked: position -1, padding, is written there and never seen.
        shape = (config.depth, batch, config.kv_heads, max_length + 1, config.head_size)
        self.max_length = max_length
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self._positions: Tensor | None = None
        self._seen = 0

    @property
    def batch(self) -> int:
        """Rows."""
        return self.lengths.shape[0]

    def rows(self, start: int, stop: int) -> KVCache:
        """Rows [start, stop) as a cache that shares this one's memory and lengths."""
        view = object.__new__(KVCache)
        view.max_length = self.max_length
        view.keys, view.values = self.keys[:, start:stop], self.values[:, start:stop]
        view.lengths = self.lengths[start:stop]
        view._positions, view._seen = None, 0
        return view

    def copy_row(self, source: int, target: int) -> None:
        """Row ``target`` becomes a copy of row ``source`` (a shared prefix, a moved sequence)."""
        length = int(self.lengths[source])
        for memory in (self.keys, self.values):
            memory[:, target, :, :length] = memory[:, source, :, :length]
        self.lengths[target] = length

    def begin(self, ids: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Start a forward pass: the positions (B,T) and the mask (B,1,T,S) of its queries.

        Raises ValueError when a row would outgrow ``max_length`` or the batch differs.
        """
        B, T = ids.shape
        if self.batch != B:
            raise ValueError(f"ids have {B} rows, the cache has {self.batch}")
        if positions is None:
            positions = self.lengths[:, None] + torch.arange(T, device=ids.device)
        self._seen = max(int(positions.max()) + 1, 1)
        if self._seen > self.max_length:
            raise ValueError(f"position {self._seen - 1} exceeds the cache of {self.max_length}")
        self._positions = positions
        slots = torch.arange(self._seen, device=ids.device)
        return positions, (slots <= positions[:, :, None]).unsqueeze(1)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember k and v (B,K,T,d); returns those of slots 0..S-1: two (B,K,S,d)."""
        assert self._positions is not None, "begin() comes first"
        row = torch.arange(k.shape[0], device=k.device)[:, None]
        for memory, new in ((self.keys[layer], k), (self.values[layer], v)):
            # Advanced indices around a slice: the result is (B,T,K,d).
            memory[row, :, self._positions] = new.transpose(1, 2).to(memory.dtype)
        seen = slice(0, self._seen)
        return self.keys[layer][:, :, seen].to(k.dtype), self.values[layer][:, :, seen].to(v.dtype)

    def end(self) -> None:
        """Finish a forward pass: the rows are as long as their last position says."""
        assert self._positions is not None, "begin() comes first"
        last = self._positions.max(dim=1).values + 1
        torch.maximum(self.lengths, last, out=self.lengths)
        self._positions = None
