"""Rendered conversations in, batches out: any batch at once, by its number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from fledge.core.errors import InputError
from fledge.data.conversations import Rendered
from fledge.train.batch import PADDING, Batch, Rows
from fledge.train.loader import PackedLoader
from fledge.tune.epochs import PackedEpochs

REPLAYED = 1 << 40
"""Segments of pretraining text are numbered from here on: beyond those of all conversations."""


class ConversationLoader:
    """Rows of ``context`` tokens, each holding whole conversations that do not see each other.

    Each epoch packs and shuffles anew by (seed, epoch); every conversation occurs once in it.
    Segments are numbered by conversation and epoch, those of text by row, so no number comes twice
    (NEFTune draws by it).  ``replay`` fills the last ``replay_rows`` of each batch with pretraining
    text.  Past ``epochs`` rows are empty, which fills up the last batch.
    """

    def __init__(
        self,
        conversations: Sequence[Rendered],
        *,
        context: int,
        batch_rows: int,
        seed: int,
        fill: int,
        epochs: float | None = None,
        replay: PackedLoader | None = None,
        replay_rows: int = 0,
        first_segment: int = 0,
    ) -> None:
        if not conversations:
            raise InputError("no conversation to learn from", remedy="check the files")
        self.conversations = conversations
        self.context = context
        self.own_rows = batch_rows - replay_rows
        self.seed = seed
        self._fill_id, self._first_segment = fill, first_segment
        self._replay, self._replay_rows = replay, replay_rows
        # A conversation of n tokens takes n - 1 places: the last one is a target only.
        self._lengths = [len(conversation.ids) - 1 for conversation in conversations]
        self._epochs = PackedEpochs(self._lengths, capacity=context, seed=seed, epochs=epochs)
        self.rows_per_epoch = self._epochs.rows_per_epoch

    @property
    def steps(self) -> int | None:
        """Batches until the data ends; None when it does not."""
        return self._epochs.batches(self.own_rows)

    def fingerprint(self) -> str:
        """Names the data and its order."""
        digest = hashlib.sha256()
        for conversation in self.conversations:
            digest.update(np.array(conversation.ids, dtype="<i8").tobytes())
            digest.update(np.array(conversation.mask, dtype=bool).tobytes())
        replay = self._replay.fingerprint() if self._replay and self._replay_rows else ""
        limit = self._epochs.limit
        shape = f"{self.context}:{self.own_rows}:{self.seed}:{limit}:{self._replay_rows}"
        return f"{digest.hexdigest()}:{shape}:{replay}"

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``."""
        rows = self.unfinished(range(step * self.own_rows, (step + 1) * self.own_rows))
        if self._replay is not None and self._replay_rows:
            first = step * self._replay_rows
            rows.append(self._replayed(self._replay, range(first, first + self._replay_rows)))
        return rows.batch()

    def _replayed(self, replay: PackedLoader, numbers: range) -> Rows:
        """Rows of text, whose segments do not begin at 0 in each."""
        rows = replay.unfinished(numbers)
        begins = REPLAYED + np.array(numbers)[:, None] * self.context
        rows.segments = np.where(rows.segments == PADDING, PADDING, rows.segments + begins)
        return rows

    def rows(self, numbers: Iterable[int]) -> Batch:
        """The rows with these numbers, counted from the start of training."""
        return self.unfinished(numbers).batch()

    def unfinished(self, numbers: Iterable[int]) -> Rows:
        """The rows with these numbers, as arrays."""
        numbers = list(numbers)
        rows = Rows(len(numbers), self.context, self._fill_id)
        for place, number in enumerate(numbers):
            epoch, items = self._epochs.row(number)
            self._fill(rows, place, items, epoch)
        return rows

    def _fill(self, rows: Rows, place: int, items: Sequence[int], epoch: int) -> None:
        start, segment = 0, self._first_segment + epoch * len(self.conversations)
        for item in items:
            conversation, stop = self.conversations[item], start + self._lengths[item]
            rows.ids[place, start:stop] = conversation.ids[:-1]
            rows.targets[place, start:stop] = conversation.ids[1:]
            rows.segments[place, start:stop] = segment + item
            rows.weights[place, start:stop] = conversation.mask[1:]
            start = stop
