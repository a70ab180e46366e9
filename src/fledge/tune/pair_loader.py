"""Answers that belong together in, batches out: a pair lies whole in one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fledge.core.errors import InputError
from fledge.train.batch import Batch, Rows
from fledge.tune.epochs import PackedEpochs
from fledge.tune.groups import Group, Values, digest_of, group_length


class PairLoader:
    """Rows of ``row`` tokens, each holding whole groups whose answers do not see each other.

    Segment 2 n + mark belongs to group n, counted from the start of training.  An answer's tokens
    predict the next one, and those whose *next* token counts have weight 1; with ``scored`` all
    tokens are read, and those that count themselves have weight 1.  ``signals`` of the batch are
    those of the groups, (B,T,1); None where the groups have none.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        row: int,
        batch_rows: int,
        seed: int,
        fill: int,
        epochs: float | None = None,
        scored: bool = False,
    ) -> None:
        if not groups:
            raise InputError("no pair to learn from", remedy="check the files")
        self.groups, self.row, self.batch_rows = groups, row, batch_rows
        self._seed, self._fill_id, self._scored = seed, fill, scored
        lengths = [group_length(group, scored) for group in groups]
        self._epochs = PackedEpochs(lengths, capacity=row, seed=seed, epochs=epochs)
        self.rows_per_epoch = self._epochs.rows_per_epoch
        fitting = np.cumsum(np.sort(lengths)) <= row
        self.most = len(groups[0].answers) * int(fitting.sum())
        """Segments that a row can have."""

    @property
    def steps(self) -> int | None:
        """Batches until the data ends; None when it does not."""
        return self._epochs.batches(self.batch_rows)

    def fingerprint(self) -> str:
        """Names the data and its order."""
        shape = f"{self.row}:{self.batch_rows}:{self._seed}:{self._epochs.limit}:{self._scored}"
        return f"{digest_of(self.groups)}:{shape}"

    def items(self, step: int) -> list[int]:
        """The groups in the batch of ``step``, as places in ``groups``."""
        numbers = range(step * self.batch_rows, (step + 1) * self.batch_rows)
        return [item for number in numbers for item in self._epochs.row(number)[1]]

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``."""
        rows = Rows(self.batch_rows, self.row, self._fill_id)
        signals = np.zeros((self.batch_rows, self.row, 1), dtype=np.float32)
        for place in range(self.batch_rows):
            epoch, items = self._epochs.row(step * self.batch_rows + place)
            start = 0
            for item in items:
                group = self.groups[item]
                first = 2 * (epoch * len(self.groups) + item)
                start = self._fill(rows, signals, place, start, group, first)
        batch = rows.batch()
        told = any(group.signals for group in self.groups[:1])
        return batch._replace(signals=torch.from_numpy(signals)) if told else batch

    def _fill(
        self, rows: Rows, signals: Values, place: int, start: int, group: Group, first: int
    ) -> int:
        """Write a group from ``start`` on, its segments from ``first`` on; where it ends."""
        for number, (answer, mark) in enumerate(zip(group.answers, group.marks, strict=True)):
            read = answer.ids if self._scored else answer.ids[:-1]
            counts = np.array(answer.mask if self._scored else answer.mask[1:], dtype=bool)
            stop = start + len(read)
            rows.ids[place, start:stop] = read
            if not self._scored:
                rows.targets[place, start:stop] = answer.ids[1:]
            rows.segments[place, start:stop] = first + mark
            rows.weights[place, start:stop] = counts
            if group.signals:
                signals[place, start:stop, 0][counts] = group.signals[number]
            start = stop
        return start


Scorer = Callable[[Batch], torch.Tensor]
"""A batch in, a number for every token out: (B,T) float32."""


def read_values(
    groups: Sequence[Group], score: Scorer, *, row: int, batch_rows: int, scored: bool = False
) -> list[tuple[Values, ...]]:
    """What ``score`` (batch -> (B,T) float32) says of every token that counts, group by group."""
    if not groups:
        return []
    loader = PairLoader(
        groups, row=row, batch_rows=batch_rows, seed=0, fill=0, epochs=1, scored=scored
    )
    found: list[dict[int, Values]] = [{} for _ in groups]
    for step in range(loader.steps or 0):
        batch = loader[step]
        values = score(batch).float().cpu().numpy()
        counts, segments = batch.weights.numpy() > 0, batch.segments.numpy()
        for place in range(batch_rows):
            for segment in np.unique(segments[place][counts[place]]):
                mine = (segments[place] == segment) & counts[place]
                item, mark = divmod(int(segment), 2)
                found[item][mark] = values[place][mine]
    return [
        tuple(parts[mark] for mark in group.marks)
        for group, parts in zip(groups, found, strict=True)
    ]
