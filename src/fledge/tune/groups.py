"""Answers that belong together: their tokens, and which of them count.  No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fledge.data.conversations import Rendered

Values = NDArray[np.float32]

BETTER, WORSE = 0, 1
"""The last bit of a segment's number: chosen or good, rejected or bad."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Answers, each with its prompt, that must share a row: a pair, or one that stands alone."""

    answers: tuple[Rendered, ...]
    """``mask`` says which tokens count."""
    marks: tuple[int, ...] = (BETTER, WORSE)
    signals: tuple[Values, ...] = ()
    """Of each answer: a number for every token that counts."""
    margin: float | None = None
    origin: str = ""

    def with_signals(self, signals: tuple[Values, ...]) -> Group:
        """The group with other signals."""
        return replace(self, signals=signals)

    def apart(self) -> list[Group]:
        """Each answer as a group of its own."""
        return [
            replace(self, answers=(answer,), marks=(mark,), signals=(), margin=None)
            for answer, mark in zip(self.answers, self.marks, strict=True)
        ]


def group_length(group: Group, scored: bool = False) -> int:
    """Places that a group takes in a row: of an answer that is predicted the last one is none."""
    return sum(len(answer.ids) - (not scored) for answer in group.answers)


def row_for(groups: Sequence[Group], longest: int, least: int) -> int:
    """Tokens of a row: a multiple of 64 that holds every group; ``least`` or more.

    ``longest`` is the most that a row may have.
    """
    needed = max(group_length(group, scored=True) for group in groups)
    return min(longest, max(least, -(-needed // 64) * 64))


def digest_of(groups: Sequence[Group]) -> str:
    """Names what is learnt of the groups, whatever their signals are."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(repr((group.marks, group.margin)).encode())
        for answer in group.answers:
            digest.update(np.array(answer.ids, dtype="<i8").tobytes())
            digest.update(np.array(answer.mask, dtype=bool).tobytes())
    return digest.hexdigest()
