"""Slots: what searches must know of each level-0 chunk, as arrays, in blocks of 8,192 rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 8192
"""Slots in a row of the table: what a commit rewrites for each document it removes."""

SLOT = np.dtype(
    [
        ("checksum", "<u8"),  # of its postings, see postings.py
        ("chunk", "<u4"),  # its chunk's number
        ("document", "<u4"),  # its document's number; 0: the slot is dead
        ("terms", "<u4"),  # how many the chunk has, repetitions counted
        ("vector", "<u4"),  # 1 when it has a vector
    ]
)
Slots = NDArray[Any]


def read_slots(connection: sqlite3.Connection, count: int) -> Slots:
    """All slots, (count,) of ``SLOT``."""
    rows = connection.execute("SELECT data FROM slots ORDER BY block").fetchall()
    found = np.frombuffer(b"".join(row[0] for row in rows), dtype=SLOT)
    if len(found) != count:
        raise sqlite3.DatabaseError(f"slots: {len(found)} where the state says {count}")
    return found


def write_slots(connection: sqlite3.Connection, first: int, slots: Slots) -> None:
    """Put ``slots`` at ``first``, where those before them end."""
    while len(slots):
        block, filled = divmod(first, BLOCK)
        fits = slots[: BLOCK - filled]
        before = b""
        if filled:
            query = "SELECT data FROM slots WHERE block = ?"
            before = connection.execute(query, (block,)).fetchone()[0][: filled * SLOT.itemsize]
        row = (block, before + fits.tobytes())
        connection.execute("INSERT OR REPLACE INTO slots VALUES (?, ?)", row)
        slots, first = slots[len(fits) :], first + len(fits)


def bury(connection: sqlite3.Connection, dead: Sequence[int]) -> None:
    """Mark slots as dead."""
    numbers = np.array(sorted(dead), dtype=np.int64)
    for block in np.unique(numbers // BLOCK).tolist():
        query = "SELECT data FROM slots WHERE block = ?"
        data = connection.execute(query, (block,)).fetchone()[0]
        slots = np.frombuffer(data, dtype=SLOT).copy()
        slots["document"][numbers[numbers // BLOCK == block] - block * BLOCK] = 0
        connection.execute("UPDATE slots SET data = ? WHERE block = ?", (slots.tobytes(), block))


@dataclass(frozen=True)
class SlotView:
    """The slots of one state, and what searches derive from them."""

    slots: Slots

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """(S,)"""
        return np.asarray(self.slots["document"] != 0)

    @cached_property
    def count(self) -> int:
        """Live slots."""
        return int(self.live.sum())

    @cached_property
    def with_vector(self) -> NDArray[np.bool_]:
        """(S,): live, and has a vector."""
        return np.asarray(self.live & (self.slots["vector"] != 0))

    @cached_property
    def relative_length(self) -> NDArray[np.float32]:
        """(S,): the chunk's number of terms over the mean of the live ones."""
        lengths = self.slots["terms"].astype(np.float32)
        mean = lengths[self.live].mean() if self.count else 1.0
        return np.asarray(lengths / max(float(mean), 1e-9), dtype=np.float32)

    def of_documents(self, numbers: Sequence[int]) -> NDArray[np.bool_]:
        """(S,): which live slots belong to these documents."""
        documents = self.slots["document"]
        chosen = np.zeros(int(documents.max(initial=0)) + 1, dtype=bool)
        chosen[np.array(numbers, dtype=np.int64)] = True
        chosen[0] = False
        return np.asarray(chosen[documents])


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The places of the k largest finite scores, largest first, equal ones in their order."""
    k = min(k, len(scores))
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    found = np.flatnonzero((scores >= least) & np.isfinite(scores))
    return np.asarray(found[np.argsort(-scores[found], kind="stable")][:k], dtype=np.int64)
