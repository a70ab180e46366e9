"""Token shards in, packed batches out: any batch at once, by its number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import InputError
from fledge.train.batch import Batch, Rows
from fledge.train.shards import Stream, TokenShards


class PackedLoader:
    """Rows of ``context`` tokens cut from the shuffled documents laid end to end, no padding.

    Each epoch shuffles the documents, cuts their stream into rows and shuffles the rows, all by
    (seed, epoch).  Every token is read exactly once an epoch; each position predicts the token
    that follows in the stream, so the end of a document predicts <|endoftext|>.  ``segments``
    keep documents apart.  Only the last row of an epoch may be short; it is padded.  The very last
    token of an epoch predicts nothing, so it gets no row for itself.

    With ``epochs`` the data ends there: later rows are empty, which fills up the last batch.
    Without, epochs follow each other for ever.  Raises InputError when there is nothing to predict.
    """

    def __init__(
        self,
        shards: TokenShards,
        *,
        context: int,
        batch_rows: int,
        seed: int,
        epochs: float | None = None,
    ) -> None:
        if shards.tokens < 2:
            raise InputError(
                f"{shards.folder} has no {shards.split} tokens to learn", remedy="check the corpus"
            )
        self.shards = shards
        self.context = context
        self.batch_rows = batch_rows
        self.seed = seed
        self.rows_per_epoch = math.ceil((shards.tokens - 1) / context)
        self._limit = None if epochs is None else round(epochs * self.rows_per_epoch)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)  # a batch may straddle two epochs

    @property
    def steps(self) -> int | None:
        """Batches until the data ends; None when it does not."""
        return None if self._limit is None else math.ceil(self._limit / self.batch_rows)

    def fingerprint(self) -> str:
        """Names the data and its order."""
        shape = f"{self.context}:{self.batch_rows}:{self.seed}:{self._limit}"
        return f"{self.shards.fingerprint()}:{shape}"

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``: rows [step * batch_rows, (step + 1) * batch_rows)."""
        return self.rows(range(step * self.batch_rows, (step + 1) * self.batch_rows))

    def rows(self, numbers: Iterable[int]) -> Batch:
        """The rows with these numbers, counted from the start of training."""
        numbers = list(numbers)
        rows = Rows(len(numbers), self.context, self.shards.endoftext_id)
        for place, number in enumerate(numbers):
            if self._limit is None or number < self._limit:
                self._fill(rows, place, number)
        return rows.batch()

    def _fill(self, rows: Rows, place: int, number: int) -> None:
        epoch, row = divmod(number, self.rows_per_epoch)
        stream, order = self._epoch(epoch)
        # One token more than the context: the last target.
        tokens, segments = stream.window(int(order[row]) * self.context, self.context + 1)
        length = min(self.context, len(tokens))
        rows.ids[place, :length] = tokens[:length]
        rows.segments[place, :length] = segments[:length]
        rows.targets[place, : len(tokens) - 1] = tokens[1:]
        rows.weights[place, : len(tokens) - 1] = 1.0

    def _shuffled(self, epoch: int) -> tuple[Stream, NDArray[np.int64]]:
        """The documents of an epoch end to end, and the order of the rows cut from them."""
        documents = np.arange(self.shards.documents)
        order = np.arange(self.rows_per_epoch)
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        return Stream(self.shards, generator.permutation(documents)), generator.permutation(order)
