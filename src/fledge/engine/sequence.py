"""What the scheduler knows of one sequence: its tokens, its blocks, and how far it is computed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

_number = attrgetter("number")


@dataclass(slots=True, eq=False, kw_only=True)
class SequenceState:
    """One sequence; only the scheduler changes it."""

    number: int
    """Its name, and its age: a later one has a greater number."""

    client: str
    """Whom it is charged to."""

    scope: tuple[str, ...]
    """What its values depend on besides tokens; blocks are shared only within a scope."""

    tokens: list[int]
    """Prompt and drawn tokens, all that is certain."""

    limit: int
    """The most tokens it may come to have."""

    wanted: int
    """The first position whose logits are wanted and not delivered yet."""

    computed: int = 0
    """How many positions have their values in the blocks."""

    table: tuple[int, ...] = ()
    """Its blocks; none while it waits."""

    draft: tuple[int, ...] = ()
    """Guesses of the tokens to come, for the next step only."""

    cached: int = 0
    """Tokens found in remembered blocks when it was last admitted."""

    @property
    def pending(self) -> int:
        """How many certain tokens are still to be computed."""
        return len(self.tokens) - self.computed


class ByAge:
    """Sequences, the oldest first."""

    def __init__(self) -> None:
        self._items: list[SequenceState] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[SequenceState]:
        return iter(self._items)

    def __getitem__(self, index: int) -> SequenceState:
        return self._items[index]

    def add(self, sequence: SequenceState) -> None:
        """Put it where its age belongs."""
        insort(self._items, sequence, key=_number)

    def discard(self, sequence: SequenceState) -> bool:
        """Take it out; whether it was there."""
        index = bisect_left(self._items, sequence.number, key=_number)
        if index == len(self._items) or self._items[index] is not sequence:
            return False
        del self._items[index]
        return True
