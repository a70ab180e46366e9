"""Compaction: slots of removed chunks go, in the database and in the vector file."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np

from fledge.index.store.sqlite.postings import renumber_segments
from fledge.index.store.sqlite.slots import SlotView, read_slots, write_slots
from fledge.index.store.sqlite.vector_file import map_vectors, vector_path, write_vectors
from fledge.index.store.sqlite.writing import read_state, write_state

ROWS = 16_384
"""Vectors copied at a time."""


def compact(connection: sqlite3.Connection, folder: Path) -> int:
    """Write slots, postings and vectors anew; the generation that counts from the commit on."""
    state = read_state(connection)
    view = SlotView(read_slots(connection, state.slots))
    old = np.flatnonzero(view.live)
    new = replace(state, commits=state.commits + 1, generation=state.generation + 1, slots=len(old))
    if state.dimensions:
        source = map_vectors(vector_path(folder, state.generation), state.slots, state.dimensions)
        target = vector_path(folder, new.generation)
        target.unlink(missing_ok=True)
        connection.execute("DELETE FROM vector_sums")
        for at in range(0, max(len(old), 1), ROWS):
            rows = source[old[at : at + ROWS]]
            crc = write_vectors(target, at, rows)
            connection.execute("INSERT INTO vector_sums VALUES (?, ?, ?)", (at, len(rows), crc))
    renumber_segments(connection, view)
    connection.execute("DELETE FROM slots")
    write_slots(connection, 0, view.slots[old])
    numbers = enumerate(view.slots["chunk"][old].tolist())
    connection.executemany("UPDATE chunks SET slot = ? WHERE number = ?", numbers)
    write_state(connection, new)
    return new.generation
