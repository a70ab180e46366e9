"""A commit, inside its transaction: former versions out, new ones in, arrays extended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.core.types import content_hash
from fledge.index.store.entries import dimensions_of, searched
from fledge.index.store.filters import fields_of
from fledge.index.store.protocol import Entry
from fledge.index.store.sqlite.filtering import fact_row
from fledge.index.store.sqlite.postings import (
    SPAN,
    Segment,
    build_segment,
    merge_segments,
    write_segment,
)
from fledge.index.store.sqlite.schema import to_sql
from fledge.index.store.sqlite.slots import SLOT, Slots, SlotView, bury, read_slots, write_slots
from fledge.index.store.sqlite.texts import PARTS, box_rows, text_rows
from fledge.index.store.sqlite.vector_file import vector_path, write_vectors


@dataclass(frozen=True, kw_only=True)
class State:
    """The row that says what counts of everything else."""

    commits: int
    generation: int
    dimensions: int
    slots: int
    next_document: int
    next_chunk: int


def read_state(connection: sqlite3.Connection) -> State:
    """The state this connection sees."""
    names = ", ".join(State.__dataclass_fields__)
    row = connection.execute(f"SELECT {names} FROM state").fetchone()
    return State(**dict(zip(State.__dataclass_fields__, row, strict=True)))


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Make ``state`` the one that counts."""
    names = ", ".join(f"{name} = ?" for name in State.__dataclass_fields__)
    connection.execute(f"UPDATE state SET {names}", tuple(vars(state).values()))


@dataclass(frozen=True)
class Prepared:
    """What can be made of entries before the others are kept waiting."""

    entries: list[Entry]
    segments: list[Segment]


def prepare(entries: list[Entry]) -> Prepared:
    """Entries with the segments of their terms."""
    terms = [chunk for entry in entries for chunk in entry.terms]
    return Prepared(
        entries,
        [build_segment(terms[at : at + SPAN]) for at in range(0, len(terms), SPAN)],
    )


def write_commit(
    connection: sqlite3.Connection, folder: Path, prepared: Prepared, deletes: Sequence[str]
) -> None:
    """All of a commit's changes to the database and the vector file."""
    state = read_state(connection)
    entries = prepared.entries
    dimensions = dimensions_of(entries, state.dimensions)
    dead = [*deletes, *(entry.document.id for entry in entries)]
    removed = remove_documents(connection, dead)
    if not entries and not removed:
        return
    slots = np.zeros(sum(segment.count for segment in prepared.segments), dtype=SLOT)
    at, document, chunk = 0, state.next_document, state.next_chunk
    for entry in entries:
        mine = slots[at : at + len(entry.terms)]
        _insert_document(connection, document, chunk, entry)
        _insert_chunks(connection, _Numbers(document, chunk, state.slots + at), entry, mine)
        at, document, chunk = at + len(mine), document + 1, chunk + len(entry.chunks)
    if len(slots) and dimensions:
        rows = _vector_rows(entries, dimensions)
        first = state.slots if state.dimensions else 0
        rows = np.vstack([np.zeros((state.slots - first, dimensions), np.float32), rows])
        crc = write_vectors(vector_path(folder, state.generation), first, rows)
        connection.execute("INSERT INTO vector_sums VALUES (?, ?, ?)", (first, len(rows), crc))
    _append(connection, state.slots, prepared.segments, slots)
    after = replace(
        state,
        commits=state.commits + 1,
        dimensions=dimensions,
        slots=state.slots + len(slots),
        next_document=document,
        next_chunk=chunk,
    )
    write_state(connection, after)


def _vector_rows(entries: Sequence[Entry], dimensions: int) -> NDArray[np.float32]:
    rows = [
        np.zeros((len(entry.terms), dimensions), np.float32)
        if entry.vectors is None
        else entry.vectors.reshape(len(entry.terms), dimensions)
        for entry in entries
    ]
    return np.concatenate(rows, dtype=np.float32)


def _append(
    connection: sqlite3.Connection, first: int, segments: Sequence[Segment], slots: Slots
) -> None:
    at = 0
    for segment in segments:
        mine = slots[at : at + segment.count]
        mine["terms"], mine["checksum"] = segment.lengths, segment.checksums
        write_segment(connection, first + at, segment.count, segment.rows)
        at += segment.count
    write_slots(connection, first, slots)
    if len(slots):
        merge_segments(connection, SlotView(read_slots(connection, first + len(slots))))


def remove_documents(connection: sqlite3.Connection, ids: Sequence[str]) -> int:
    """Take documents out of all tables; returns how many there were."""
    dead: list[int] = []
    count = 0
    for id in ids:
        query = "SELECT number, first_chunk, chunks FROM documents WHERE id = ?"
        found = connection.execute(query, (to_sql(id),)).fetchone()
        if found is None:
            continue
        number, first, chunks = found
        run = (first, first + chunks - 1)
        query = "SELECT slot FROM chunks WHERE number BETWEEN ? AND ? AND slot IS NOT NULL"
        dead += [row[0] for row in connection.execute(query, run)]
        connection.execute("DELETE FROM chunks WHERE number BETWEEN ? AND ?", run)
        pieces = (number << PARTS, ((number + 1) << PARTS) - 1)
        connection.execute("DELETE FROM texts WHERE key BETWEEN ? AND ?", pieces)
        connection.execute("DELETE FROM boxes WHERE key BETWEEN ? AND ?", pieces)
        connection.execute("DELETE FROM places WHERE document = ?", (number,))
        connection.execute("DELETE FROM facts WHERE document = ?", (number,))
        connection.execute("DELETE FROM documents WHERE number = ?", (number,))
        count += 1
    bury(connection, dead)
    return count


def _insert_document(
    connection: sqlite3.Connection, number: int, first_chunk: int, entry: Entry
) -> None:
    document = entry.document
    names = (document.id, entry.path, entry.kind, document.url, document.source, document.lang)
    row = (
        number,
        *(to_sql(name) for name in (*names, document.date)),
        json.dumps(document.metadata, separators=(",", ":")),
        content_hash(document.text),
        entry.fingerprint,
        len(document.text),
        first_chunk,
        len(entry.chunks),
        len(entry.terms),
        len(entry.places),
    )
    connection.execute(f"INSERT INTO documents VALUES ({', '.join('?' * len(row))})", row)
    connection.executemany("INSERT INTO texts VALUES (?, ?, ?)", text_rows(number, document.text))
    connection.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?)", box_rows(number, entry.boxes))
    places = ((number, place.start, place.end, to_sql(place.label)) for place in entry.places)
    connection.executemany("INSERT INTO places VALUES (?, ?, ?, ?)", places)
    facts = (
        fact_row(field, value, number)
        for field, values in fields_of(document, entry.path, entry.kind).items()
        for value in values
    )
    connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?)", facts)


@dataclass(frozen=True)
class _Numbers:
    """Where an entry's rows begin."""

    document: int
    chunk: int
    slot: int


def _insert_chunks(
    connection: sqlite3.Connection, first: _Numbers, entry: Entry, slots: Slots
) -> None:
    """The chunks' rows; ``slots`` (those of the entry) learn whose they are."""
    slots["document"] = first.document
    slots["chunk"] = np.array(searched(entry), dtype=np.uint32) + first.chunk
    slots["vector"] = entry.vectors is not None
    connection.executemany(
        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _chunk_rows(first, entry)
    )


def _chunk_rows(first: _Numbers, entry: Entry) -> Iterator[tuple[Any, ...]]:
    positions: dict[int, int] = {}
    for at, chunk in enumerate(entry.chunks):
        position = positions.get(chunk.level, 0)
        positions[chunk.level] = position + 1
        yield (
            first.chunk + at,
            first.document,
            chunk.start,
            chunk.end,
            chunk.level,
            position,
            None if chunk.parent is None else first.chunk + chunk.parent,
            to_sql(chunk.heading),
            first.slot + position if chunk.level == 0 else None,
        )
