"""A rollout in, a batch out in which the answers to a prompt share it: read once, seen by all.

A row holds families: a prompt but for its last token, then what follows it in each answer, which
begins with that last token, since there its first drawn token is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from fledge.train.batch import PADDING, Batch, Rows
from fledge.tune.experience import Experience, Floats
from fledge.tune.packing import pack

CHANNELS = ("old", "reference", "advantage", "kl_weight", "drawn", "value", "return")
"""What ``Batch.signals`` holds of each target, in this order."""


class Place(NamedTuple):
    """Where the last ``length`` targets of an answer lie in a batch."""

    answer: int
    row: int
    start: int
    length: int


class Family(NamedTuple):
    """Answers that share their first ``shared`` tokens, 0 for one alone."""

    shared: int
    answers: list[int]


@dataclass(frozen=True)
class LaidOut:
    """A batch, and where each answer lies in it."""

    batch: Batch
    places: list[Place]

    def flat(self, values: torch.Tensor, experience: Experience) -> Floats:
        """Numbers of targets (B,T) as numbers of tokens (M); 0 where no target is."""
        numbers = values.float().numpy()
        found = np.zeros(len(experience.ids), np.float32)
        ends = experience.starts + experience.lengths
        for answer, row, start, length in self.places:
            end = int(ends[answer])
            found[end - length : end] = numbers[row, start : start + length]
        return found


def lay_out(
    experience: Experience, answers: Sequence[int], weights: Floats, fill: int, room: int
) -> LaidOut:
    """Some of the answers in rows of ``room`` tokens, or as many as the longest answer has.

    ``weights`` (M) say how much each token counts; an answer none of whose tokens do is left out.
    A family that is too large for a row is cut, and its prompt repeated.
    """
    starts, lengths = experience.starts.tolist(), (experience.lengths - 1).tolist()
    counting = [n for n in answers if weights[starts[n] : starts[n] + lengths[n] + 1].any()]
    room = max([room, *(lengths[answer] for answer in counting)])
    families = [
        part for one in _families(experience, counting) for part in _cut(one, lengths, room)
    ]
    sizes = [_size(family, lengths) for family in families]
    packed = pack(sizes, range(len(families)), room)
    width = max(sum(sizes[one] for one in row) for row in packed)
    laid = _Laying(experience, weights, Rows(len(packed), width, fill))
    for row, members in enumerate(packed):
        for member in members:
            laid.put(row, member, families[member])
    return laid.done()


def _families(experience: Experience, answers: Sequence[int]) -> list[Family]:
    """Answers by prompt, in the order in which prompts first come."""
    starts, lengths = experience.starts.tolist(), experience.lengths.tolist()
    found: dict[bytes, Family] = {}
    for answer in answers:
        begin = starts[answer]
        drawn = experience.learnt[begin : begin + lengths[answer]]
        shared = max(0, int(drawn.argmax()) - 1)
        prompt = experience.ids[begin : begin + shared + 1]
        found.setdefault(prompt.tobytes(), Family(shared, [])).answers.append(answer)
    return [one if len(one.answers) > 1 else Family(0, one.answers) for one in found.values()]


def _cut(family: Family, lengths: Sequence[int], room: int) -> list[Family]:
    """The family in parts that fit into ``room`` tokens."""
    parts: list[Family] = []
    left = 0
    for answer in family.answers:
        size = lengths[answer] - family.shared
        if not parts or size > left:
            parts.append(Family(family.shared, []))
            left = room - family.shared
        parts[-1].answers.append(answer)
        left -= size
    return [one if len(one.answers) > 1 else Family(0, one.answers) for one in parts]


def _size(family: Family, lengths: Sequence[int]) -> int:
    own = sum(lengths[answer] - family.shared for answer in family.answers)
    return family.shared + own


class _Laying:
    """Rows as they are filled, family after family."""

    def __init__(self, experience: Experience, weights: Floats, rows: Rows) -> None:
        self._experience, self._weights, self._rows = experience, weights, rows
        shape = rows.ids.shape
        self._signals = np.zeros((*shape, len(CHANNELS)), np.float32)
        self._columns = [experience.signals.get(name) for name in CHANNELS]
        self._continues = np.full(shape, PADDING, np.int64)
        self._filled = [0] * shape[0]
        self._places: list[Place] = []

    def put(self, row: int, number: int, family: Family) -> None:
        """Append family ``number`` to a row; answers keep their numbers as segments."""
        experience, rows = self._experience, self._rows
        prompt = len(experience.lengths) + number
        if family.shared:
            begin = int(experience.starts[family.answers[0]])
            where = self._take(row, family.shared)
            rows.ids[row, where] = experience.ids[begin : begin + family.shared]
            rows.segments[row, where] = prompt
        for answer in family.answers:
            begin = int(experience.starts[answer]) + family.shared
            end = int(experience.starts[answer] + experience.lengths[answer])
            where = self._take(row, end - 1 - begin)
            rows.ids[row, where] = experience.ids[begin : end - 1]
            rows.segments[row, where] = answer
            rows.targets[row, where] = experience.ids[begin + 1 : end]
            rows.weights[row, where] = self._weights[begin + 1 : end]
            for channel, values in enumerate(self._columns):
                if values is not None:
                    self._signals[row, where, channel] = values[begin + 1 : end]
            if family.shared:
                self._continues[row, where] = prompt
            self._places.append(Place(answer, row, where.start, end - 1 - begin))

    def done(self) -> LaidOut:
        """The batch."""
        parts = {"signals": self._signals, "continues": self._continues}
        more = {name: torch.from_numpy(part) for name, part in parts.items()}
        return LaidOut(self._rows.batch()._replace(**more), self._places)

    def _take(self, row: int, length: int) -> slice:
        start = self._filled[row]
        self._filled[row] += length
        return slice(start, start + length)
