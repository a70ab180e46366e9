"""Rows of different length decoded together: prompts in, logits of each row's next token out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fledge.model.cache import KVCache
from fledge.model.decoder import Decoder


class Batch:
    """Up to ``capacity`` rows of at most ``length`` tokens, in one KV cache.

    Rows are numbered 0..size-1 in the order of admission; a row that leaves is replaced by the
    last one, so the rows in use always lie together.
    """

    def __init__(self, model: Decoder, capacity: int, length: int) -> None:
        self._model = model
        self._cache = KVCache(capacity, length, model.config, model.compute_dtype, model.device)
        self.size = 0

    @torch.inference_mode()
    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read new rows; the logits after each prompt: (len(prompts), V)"""
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        positions = torch.full_like(ids, -1)  # -1: padding
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
            positions[row, : len(prompt)] = torch.arange(len(prompt))
        rows = self._cache.rows(self.size, self.size + len(prompts))
        rows.lengths.zero_()
        self.size += len(prompts)
        device = self._model.device
        hidden = self._model.hidden(
            ids.to(device), cache=rows, positions=positions.to(device)
        )  # (B,T,D)
        last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
        return self._model.logits(hidden[torch.arange(len(prompts), device=device), last])

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token of every row; the logits of the next: (size, V)"""
        ids = torch.tensor(tokens, device=self._model.device)[:, None]  # (B,1)
        logits: Tensor = self._model(ids, cache=self._cache.rows(0, self.size))  # (B,1,V)
        return logits[:, -1]

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        self.size -= 1
        if row != self.size:
            self._cache.copy_row(self.size, row)
