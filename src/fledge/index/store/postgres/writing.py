"""A commit, inside its transaction: former versions out, new ones in."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fledge.core.types import content_hash
from fledge.index.store.entries import dimensions_of, searched
from fledge.index.store.filters import fields_of
from fledge.index.store.postgres.filtering import fact_row
from fledge.index.store.postgres.schema import to_bytes
from fledge.index.store.protocol import Entry
from fledge.index.store.sqlite.texts import box_rows, text_rows

SHIFT = 24
"""Bits of a chunk's number that say where in its document it is."""

_COLUMNS = {
    "documents": "number, id, path, kind, url, source, lang, date, metadata, hash, fingerprint,"
    " characters, chunks, searched, places",
    "texts": "document, part, packed, data",
    "boxes": "document, part, first, last, data",
    "places": "document, start_at, end_at, label",
    "facts": "document, field, type, content, number",
    "chunks": "number, document, start_at, end_at, level, position, parent, heading, terms,"
    " checksum, embedding",
    "postings": "term, chunk, count",
}


def write_commit(connection: Any, entries: Sequence[Entry], deletes: Sequence[str]) -> None:
    """All of a commit's changes; other writers wait for this one to end."""
    connection.execute("LOCK TABLE state IN EXCLUSIVE MODE")
    query = "SELECT dimensions, next_document FROM state"
    before, document = connection.execute(query).fetchone()
    dimensions = dimensions_of(entries, before)
    ids = [to_bytes(id) for id in (*deletes, *(entry.document.id for entry in entries))]
    connection.execute(
        "DELETE FROM documents WHERE sha256(id) IN (SELECT sha256(x) FROM unnest(%s::bytea[]) x)",
        (ids,),
    )
    for table, rows in _tables(entries, document).items():
        with connection.cursor().copy(f"COPY {table} ({_COLUMNS[table]}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    following = document + len(entries)
    connection.execute(
        "UPDATE state SET dimensions = %s, next_document = %s", (dimensions, following)
    )


def _tables(entries: Sequence[Entry], first: int) -> dict[str, Iterator[tuple[Any, ...]]]:
    """The rows of each table."""
    numbered = list(enumerate(entries, first))
    return {
        "documents": (_document(number, entry) for number, entry in numbered),
        "texts": (
            (number, part, packed, data)
            for number, entry in numbered
            for part, (_, packed, data) in enumerate(text_rows(number, entry.document.text))
        ),
        "boxes": (
            (number, part, start, end, data)
            for number, entry in numbered
            for part, (_, start, end, data) in enumerate(box_rows(number, entry.boxes))
        ),
        "places": (
            (number, place.start, place.end, to_bytes(place.label))
            for number, entry in numbered
            for place in entry.places
        ),
        "facts": (
            fact_row(number, field, value)
            for number, entry in numbered
            for field, values in fields_of(entry.document, entry.path, entry.kind).items()
            for value in values
        ),
        "chunks": (row for number, entry in numbered for row in _chunks(number, entry)),
        "postings": (row for number, entry in numbered for row in _postings(number, entry)),
    }


def _document(number: int, entry: Entry) -> tuple[Any, ...]:
    document = entry.document
    names = (document.id, entry.path, entry.kind, document.url, document.source, document.lang)
    return (
        number,
        *(to_bytes(name) for name in (*names, document.date)),
        json.dumps(document.metadata).encode(),
        content_hash(document.text),
        entry.fingerprint,
        len(document.text),
        len(entry.chunks),
        len(entry.terms),
        len(entry.places),
    )


def _chunks(document: int, entry: Entry) -> Iterator[tuple[Any, ...]]:
    first = document << SHIFT
    places = {at: place for place, at in enumerate(searched(entry))}
    positions: dict[int, int] = {}
    for at, chunk in enumerate(entry.chunks):
        position = positions.get(chunk.level, 0)
        positions[chunk.level] = position + 1
        terms = entry.terms[places[at]] if at in places else ()
        given = entry.vectors is not None and at in places
        vector = entry.vectors[places[at]] if given and entry.vectors is not None else None
        yield (
            first + at,
            document,
            chunk.start,
            chunk.end,
            chunk.level,
            position,
            None if chunk.parent is None else first + chunk.parent,
            to_bytes(chunk.heading),
            len(terms),
            checksum(Counter(terms), vector),
            None if vector is None else literal(vector),
        )


def _postings(document: int, entry: Entry) -> Iterator[tuple[Any, ...]]:
    for at, terms in zip(searched(entry), entry.terms, strict=True):
        for term, count in Counter(terms).items():
            yield to_bytes(term), (document << SHIFT) + at, count


def checksum(counts: Counter[str], vector: Any) -> int:
    """Of what a chunk is found by."""
    words = "\n".join(sorted(f"{term}\t{count}" for term, count in counts.items()))
    given = b"" if vector is None else np.asarray(vector, dtype="<f4").tobytes()
    return zlib.crc32(given, zlib.crc32(to_bytes(words)))


def literal(vector: Any) -> str:
    """A vector as pgvector reads it, to the last bit of a float32."""
    return "[" + ",".join(f"{value:.9g}" for value in np.asarray(vector).tolist()) + "]"
