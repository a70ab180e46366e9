"""Rows of pairs in, batches of token ids out, each of one source and a pure function of its step.

Queries stand first, then positives, then the negatives of each pair: (2 + K) B texts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.train.batch import Batch, Rows
from fledge.tune.embedder_rows import PairRow, by_source

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Texts -> their token ids, cut to what training reads."""

Vectors = NDArray[np.float32]


class Text(NamedTuple):
    """A text as it is read: its number among all texts, its tokens."""

    number: int
    ids: NDArray[np.int32]


class PairBatches:
    """``batch_rows`` pairs a step; an epoch reads each source as often as ``repeats`` says.

    A batch's ``segments`` are the numbers of the texts, ``weights`` 1 at tokens; ``signals``
    (texts, S) are the teacher's vectors, zeros where it says nothing.
    """

    def __init__(
        self,
        rows: Sequence[PairRow],
        encode: Encode,
        *,
        batch_rows: int,
        negatives: int,
        seed: int,
        repeats: Mapping[str, float] | None = None,
        taught: Mapping[str, Vectors] | None = None,
        fill: int = 0,
    ) -> None:
        self.rows, self.batch_rows, self.negatives = rows, batch_rows, negatives
        self._seed, self._fill = seed, fill
        self.taught = taught or {}
        self._sources = by_source(rows)
        self._repeats = dict.fromkeys(self._sources, 1.0) | dict(repeats or {})
        for name in self._repeats.keys() - self._sources.keys():
            raise InputError(
                f"repeats.{name}: no row has this source",
                remedy=nearest(name, list(self._sources)),
            )
        self._texts = _encoded(rows, encode, negatives)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)
        self.steps_per_epoch = len(self._epoch(0))
        if not self.steps_per_epoch:
            raise InputError("no source has two pairs to compare", remedy="check the files")

    def steps(self, epochs: float) -> int:
        """Steps of so many epochs."""
        return max(1, math.ceil(epochs * self.steps_per_epoch))

    def fingerprint(self) -> str:
        """Names the data and its order."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(repr((row.query, row.positive, row.negatives, row.source)).encode())
        for text in self._texts.values():
            digest.update(text.ids.tobytes())
        shape = f"{self.batch_rows}:{self.negatives}:{self._seed}:{sorted(self._repeats.items())}"
        return f"{digest.hexdigest()}:{shape}"

    def items(self, step: int) -> NDArray[np.int64]:
        """The rows in the batch of ``step``, as places in ``rows``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[place]

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``."""
        rows = [self.rows[item] for item in self.items(step)]
        texts: list[str | None] = [row.query for row in rows]
        texts += [row.positive for row in rows]
        for row in rows:
            read = row.negatives[: self.negatives]
            texts += [*read, *[None] * (self.negatives - len(read))]
        batch = self._filled([None if text is None else self._texts[text] for text in texts])
        if not self.taught:
            return batch
        size = len(next(iter(self.taught.values())))
        signals = np.zeros((len(texts), size), dtype=np.float32)
        for side in (0, 1):
            for place, row in enumerate(rows):
                shown = row.taught[side]
                if shown is not None and shown in self.taught:
                    signals[side * len(rows) + place] = self.taught[shown]
        return batch._replace(signals=torch.from_numpy(signals))

    def _filled(self, texts: Sequence[Text | None]) -> Batch:
        longest = max(len(text.ids) for text in texts if text is not None)
        rows = Rows(len(texts), max(1, longest), self._fill)
        for place, text in enumerate(texts):
            if text is not None:
                length = len(text.ids)
                rows.ids[place, :length] = text.ids
                rows.weights[place, :length] = 1
                rows.segments[place, : max(1, length)] = text.number
        return rows.batch()

    def _shuffled(self, epoch: int) -> list[NDArray[np.int64]]:
        """The batches of an epoch: every source in an order of its own, then all of them mixed."""
        batches = []
        for number, (name, items) in enumerate(self._sources.items()):
            wanted = round(self._repeats[name] * len(items))
            passes = []
            for turn in range(math.ceil(self._repeats[name])):
                generator = np.random.Generator(np.random.PCG64([self._seed, epoch, number, turn]))
                passes.append(generator.permutation(np.array(items, dtype=np.int64)))
            order = np.concatenate([*passes, np.empty(0, dtype=np.int64)])[:wanted]
            cuts = range(self.batch_rows, len(order), self.batch_rows)
            batches += [part for part in np.split(order, list(cuts)) if len(part) > 1]
        generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        return [batches[place] for place in generator.permutation(len(batches))]


def _encoded(rows: Sequence[PairRow], encode: Encode, negatives: int) -> dict[str, Text]:
    texts = dict.fromkeys(
        text for row in rows for text in (row.query, row.positive, *row.negatives[:negatives])
    )
    found = encode(list(texts))
    return {
        text: Text(number, np.array(ids, dtype=np.int32))
        for number, (text, ids) in enumerate(zip(texts, found, strict=True))
    }
