"""Token shards in, rows of tokens out: the two ways to lay documents into rows."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fledge.train.batch import Rows
from fledge.train.packing import Packing, pack
from fledge.train.shards import Stream, TokenShards

WINDOW = 1 << 20
"""Pieces packed at a time, at most: bounds the memory and the pause that packing takes."""


class BestFitRows:
    """Rows of ``context`` tokens, filled best with whole documents (see ``packing``).

    Each epoch packs and shuffles anew by (seed, epoch).  Every token is read exactly once an
    epoch and predicts what follows in its document, also where it was cut; the last one predicts
    the end of the document.  Pieces in a row do not see each other.  Very many documents are packed
    in windows, each an even sample of all of them, when their turn comes.
    """

    def __init__(
        self, shards: TokenShards, *, context: int, seed: int, window: int = WINDOW
    ) -> None:
        self._shards, self._context, self._seed = shards, context, seed
        pieces = int((-(-shards.lengths // context)).sum())
        self._windows = max(1, -(-pieces // window))
        self._packed = lru_cache(maxsize=2)(self._pack)  # a batch may straddle two windows
        self._sizes = np.array([self._pack(0, w).rows for w in range(self._windows)])
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self.rows_per_epoch = int(self._sizes.sum())

    @property
    def tokens(self) -> int:
        """Tokens read in an epoch."""
        return self._shards.tokens

    def fingerprint(self) -> str:
        """Names the data and the order of its rows."""
        shape = f"{self._context}:{self._seed}:{self._windows}"
        return f"{self._shards.fingerprint()}:best_fit:{shape}"

    def fill(self, rows: Rows, place: int, number: int) -> None:
        """Write row ``number``, counted from the start of training, at ``place``."""
        epoch, row = divmod(number, self.rows_per_epoch)
        order, begins = self._order(epoch)
        turn = int(np.searchsorted(begins, row, side="right")) - 1
        window = int(order[turn])
        packing = self._packed(epoch, window)
        first, end = packing.begins[row - begins[turn] :][:2].tolist()
        at = 0
        for piece in range(first, end):
            document = int(packing.documents[piece]) * self._windows + window
            start, length = int(packing.starts[piece]), int(packing.lengths[piece])
            tokens = self._shards.read(document, start, start + length + 1)  # one more: a target
            stop = at + length
            rows.ids[place, at:stop] = tokens[:length]
            rows.targets[place, at : at + len(tokens) - 1] = tokens[1:]
            if len(tokens) == length:
                rows.targets[place, stop - 1] = self._shards.end_id
            rows.segments[place, at:stop] = piece - first
            rows.weights[place, at:stop] = 1.0
            at = stop

    def _pack(self, epoch: int, window: int) -> Packing:
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch, window]))
        return pack(self._shards.lengths[window :: self._windows], self._context, generator)

    def _shuffled(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of an epoch's windows, and the row with which each begins."""
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        order = generator.permutation(self._windows)
        return order, np.concatenate([[0], np.cumsum(self._sizes[order])])


class StreamRows:
    """Rows of ``context`` tokens cut from the shuffled documents laid end to end, no padding.

    Each epoch shuffles the documents, cuts their stream into rows and shuffles the rows, all by
    (seed, epoch).  Every token is read exactly once an epoch; each position predicts the token
    that follows, the last of a document its end.  ``segments`` keep documents apart.  Only the
    last row of an epoch may be short; it is padded.  The very last token of an epoch predicts
    nothing, so it gets no row for itself.
    """

    def __init__(self, shards: TokenShards, *, context: int, seed: int) -> None:
        self._shards, self._context, self._seed = shards, context, seed
        self._epoch = lru_cache(maxsize=2)(self._shuffled)  # a batch may straddle two epochs
        self.rows_per_epoch = math.ceil((shards.tokens - 1) / context)

    @property
    def tokens(self) -> int:
        """Tokens read in an epoch."""
        return self._shards.tokens

    def fingerprint(self) -> str:
        """Names the data and the order of its rows."""
        return f"{self._shards.fingerprint()}:stream:{self._context}:{self._seed}"

    def fill(self, rows: Rows, place: int, number: int) -> None:
        """Write row ``number``, counted from the start of training, at ``place``."""
        epoch, row = divmod(number, self.rows_per_epoch)
        stream, order = self._epoch(epoch)
        # One token more than the context: the last target.
        tokens, segments = stream.window(int(order[row]) * self._context, self._context + 1)
        length = min(self._context, len(tokens))
        rows.ids[place, :length] = tokens[:length]
        rows.segments[place, :length] = segments[:length]
        ends = segments[1:] != segments[:-1]
        targets = np.where(ends, self._shards.end_id, tokens[1:])
        rows.targets[place, : len(tokens) - 1] = targets
        rows.weights[place, : len(tokens) - 1] = 1.0

    def _shuffled(self, epoch: int) -> tuple[Stream, NDArray[np.int64]]:
        """The documents of an epoch end to end, and the order of the rows cut from them."""
        documents = np.arange(self._shards.documents)
        order = np.arange(self.rows_per_epoch)
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        return Stream(self._shards, generator.permutation(documents)), generator.permutation(order)
