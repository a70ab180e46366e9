"""Everything in a store read again and compared: what does not fit, a line each."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fledge.core.types import Document, content_hash
from fledge.index.store.filters import fields_of
from fledge.index.store.sqlite.filtering import fact_row
from fledge.index.store.sqlite.postings import POSTING, term_hash
from fledge.index.store.sqlite.schema import from_sql
from fledge.index.store.sqlite.slots import Slots, read_slots
from fledge.index.store.sqlite.texts import PARTS, boxes_in, unpacked
from fledge.index.store.sqlite.vector_file import map_vectors, vector_path
from fledge.index.store.sqlite.writing import State, read_state


def problems(connection: sqlite3.Connection, folder: Path) -> list[str]:
    """What is wrong with the state that ``connection`` sees."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    if found:
        return [f"database: {line}" for line in found]
    state = read_state(connection)
    try:
        slots = read_slots(connection, state.slots)
    except (sqlite3.DatabaseError, ValueError) as error:
        return [str(error)]
    return [
        *_documents(connection),
        *_orphans(connection),
        *_chunks(connection, slots),
        *_postings(connection, slots),
        *_vectors(connection, folder, state),
    ]


def _documents(connection: sqlite3.Connection) -> Iterator[str]:
    """Texts against their hashes, facts against the metadata, boxes readable."""
    query = (
        "SELECT number, id, hash, characters, path, kind, url, source, lang, date, metadata"
        " FROM documents"
    )
    for number, id, hash, characters, *names, metadata in connection.execute(query):
        run = (number << PARTS, ((number + 1) << PARTS) - 1)
        pieces = "SELECT packed, data FROM texts WHERE key BETWEEN ? AND ? ORDER BY key"
        boxes = "SELECT data, last FROM boxes WHERE key BETWEEN ? AND ?"
        try:
            text = "".join(unpacked(*row) for row in connection.execute(pieces, run))
            for data, last in connection.execute(boxes, run):
                boxes_in(data, 0, last)
        except (zlib.error, UnicodeDecodeError, ValueError) as error:
            yield f"document {from_sql(id)!r}: cannot be unpacked ({error})"
            continue
        if len(text) != characters or content_hash(text) != hash:
            yield f"document {from_sql(id)!r}: the text is not what its hash {hash} names"
        path, kind, url, source, lang, date = map(from_sql, names)
        document = Document(
            id=from_sql(id),
            text="",
            url=url,
            source=source,
            lang=lang,
            date=date,
            metadata=json.loads(metadata),
        )
        wanted = {
            fact_row(field, value, number)
            for field, values in fields_of(document, path, kind).items()
            for value in values
        }
        facts = "SELECT field, type, value, document FROM facts WHERE document = ?"
        if wanted != set(connection.execute(facts, (number,))):
            yield f"document {from_sql(id)!r}: filters see other fields than it has"


def _orphans(connection: sqlite3.Connection) -> Iterator[str]:
    """Rows whose document is gone."""
    for table, owner in (
        ("texts", f"key >> {PARTS}"),
        ("boxes", f"key >> {PARTS}"),
        ("places", "document"),
        ("facts", "document"),
        ("chunks", "document"),
    ):
        query = f"SELECT count(*) FROM {table} WHERE {owner} NOT IN (SELECT number FROM documents)"
        count = connection.execute(query).fetchone()[0]
        if count:
            yield f"{table}: {count} rows belong to no document"


def _chunks(connection: sqlite3.Connection, slots: Slots) -> Iterator[str]:
    """Chunks within their texts, as many as their documents say, each with its slot."""
    query = (
        "SELECT c.number, c.document, c.slot, c.level, c.start >= 0 AND c.start < c.end AND"
        " c.end <= d.characters AND c.number >= d.first_chunk AND"
        " c.number < d.first_chunk + d.chunks"
        " FROM chunks c JOIN documents d ON d.number = c.document"
    )
    searched = 0
    for number, document, slot, level, fits in connection.execute(query):
        if not fits:
            yield f"chunk {number}: outside its document"
        if (level == 0) != (slot is not None):
            yield f"chunk {number}: of level {level} with slot {slot}"
        if slot is not None:
            searched += 1
            known = slot < len(slots) and (slots[slot]["chunk"], slots[slot]["document"])
            if known != (number, document):
                yield f"chunk {number}: slot {slot} belongs to another"
    live = int((slots["document"] != 0).sum())
    if searched != live:
        yield f"slots: {live} are live, {searched} chunks are searched"
    query = (
        "SELECT d.id FROM documents d WHERE d.chunks != (SELECT count(*) FROM chunks c"
        " WHERE c.number >= d.first_chunk AND c.number < d.first_chunk + d.chunks)"
    )
    for (id,) in connection.execute(query):
        yield f"document {from_sql(id)!r}: chunks are missing"


def _postings(connection: sqlite3.Connection, slots: Slots) -> Iterator[str]:
    """Postings of every live chunk against its number of terms and their checksum."""
    lengths = np.zeros(len(slots), dtype=np.int64)
    sums = np.zeros(len(slots), dtype=np.uint64)
    query = (
        "SELECT p.term, p.data, s.first, s.count FROM segments s JOIN postings p"
        " ON p.segment = s.number"
    )
    for term, data, first, count in connection.execute(query):
        rows = np.frombuffer(data, dtype=POSTING)
        at = rows["offset"].astype(np.int64)
        if not len(rows) or at.max() >= count or (np.diff(at) <= 0).any():
            yield f"postings of {term!r}: out of order or beyond their segment"
            continue
        lengths[first + at] += rows["count"]
        sums[first + at] += rows["count"].astype(np.uint64) * np.uint64(term_hash(term))
    wrong = (lengths != slots["terms"]) | (sums != slots["checksum"])
    for slot in np.flatnonzero(wrong & (slots["document"] != 0))[:10].tolist():
        yield f"chunk {slots[slot]['chunk']}: the inverted index has other terms than it had"


def _vectors(connection: sqlite3.Connection, folder: Path, state: State) -> Iterator[str]:
    """The vector file against the sums that were stored with each commit."""
    if not state.dimensions:
        return
    path = vector_path(folder, state.generation)
    try:
        vectors = map_vectors(path, state.slots, state.dimensions)
    except (OSError, ValueError) as error:
        yield f"{path.name}: cannot be read ({error})"
        return
    covered = 0
    for first, count, crc in connection.execute("SELECT * FROM vector_sums ORDER BY first"):
        if first != covered:
            yield f"{path.name}: vectors {covered} to {first} have no sum"
        if zlib.crc32(vectors[first : first + count].tobytes()) != crc:
            yield f"{path.name}: vectors {first} to {first + count - 1} are not what was written"
        covered = first + count
    if covered != state.slots:
        yield f"{path.name}: {covered} vectors where the state says {state.slots}"
