"""Lengths in; which items share a row out: epoch after epoch, each row by its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fledge.tune.packing import pack


class PackedEpochs:
    """Rows of whole items.  Each epoch packs and shuffles anew by (seed, epoch).

    Every item occurs once an epoch.  Past ``epochs`` rows are empty; without, they never end.
    """

    def __init__(
        self, lengths: Sequence[int], *, capacity: int, seed: int, epochs: float | None
    ) -> None:
        self._lengths, self._capacity, self._seed = lengths, capacity, seed
        self._epoch = lru_cache(maxsize=2)(self._packed)
        self.rows_per_epoch = len(self._epoch(0))
        self.limit = None if epochs is None else max(1, round(epochs * self.rows_per_epoch))
        """Rows until the data ends; None when it does not."""

    def batches(self, rows: int) -> int | None:
        """Batches of so many rows until the data ends; None when it does not."""
        return None if self.limit is None else math.ceil(self.limit / rows)

    def row(self, number: int) -> tuple[int, Sequence[int]]:
        """(epoch, items in order) of the row, counted from the start of training."""
        epoch, row = divmod(number, self.rows_per_epoch)
        if self.limit is not None and number >= self.limit:
            return epoch, ()
        return epoch, self._epoch(epoch)[row]

    def _packed(self, epoch: int) -> list[list[int]]:
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        order = generator.permutation(len(self._lengths)).tolist()
        rows = pack(self._lengths, order, self._capacity)
        return [rows[row] for row in generator.permutation(len(rows))]
