"""Entries as rows of one Lance table: a commit of one table is atomic, one of several is not.

``row`` says what a row is.  DOCUMENT: ``data`` is a header, JSON.  CHUNK: a span, its words and
vector.  TEXT, BOXES, PLACES: a piece of what belongs to a document.  ``number`` is the document's
number, shifted, plus the row's place in it, so the rows of a document are a range.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fledge.core.types import content_hash
from fledge.index.store.entries import searched
from fledge.index.store.protocol import Entry
from fledge.index.store.sqlite.texts import box_rows, text_rows

DOCUMENT, CHUNK, TEXT, BOXES, PLACES = range(5)
SHIFT = 24
"""Bits of a number that say where in its document a row is."""
_ROOM = 1 << (SHIFT - 3)
"""Rows of each kind that a document may have."""
PLACES_AT_ONCE = 4096

SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("row", pa.int8()),
        ("document", pa.int64()),
        ("id", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("level", pa.int16()),
        ("position", pa.int64()),
        ("parent", pa.int64()),
        ("words", pa.string()),
        ("checksum", pa.int64()),
        ("data", pa.binary()),
    ]
)


def first_number(document: int, row: int) -> int:
    """Where the numbers of a document's rows of one kind begin."""
    return (document << SHIFT) + row * _ROOM


def id_key(id: str) -> str:
    """An id as hexadecimal digits, which need no quotation marks and hide no half characters."""
    return id.encode("utf-8", "surrogatepass").hex()


def word(term: str) -> str:
    """A term without what the whitespace tokenizer would cut at or Arrow not take."""
    if term.isprintable() and " " not in term and "\\" not in term:
        return term
    return "".join(c if c.isprintable() and c not in " \\" else f"\\{ord(c):x};" for c in term)


def checksum(words: str, vector: Any) -> int:
    """Of what a chunk is found by."""
    given = b"" if vector is None else np.asarray(vector, dtype="<f4").tobytes()
    return zlib.crc32(given, zlib.crc32(words.encode()))


def table_of(entries: Sequence[Entry], first_document: int, dimensions: int) -> pa.Table:
    """The rows of some entries.  dimensions: of the vectors, 0 while there are none."""
    schema = SCHEMA
    if dimensions:
        schema = schema.append(pa.field("vector", pa.list_(pa.float32(), dimensions)))
    rows = [row for at, entry in enumerate(entries) for row in _rows(entry, first_document + at)]
    vectors = [row.pop("vector", None) for row in rows]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if dimensions:
        table = table.append_column(schema.field("vector"), _column(vectors, dimensions))
    return table


def _column(vectors: Sequence[Any], dimensions: int) -> pa.Array:
    """Vectors and Nones as an Arrow array."""
    zero = np.zeros(dimensions, dtype=np.float32)
    flat = np.concatenate([zero if each is None else each for each in vectors])
    mask = pa.array([each is None for each in vectors])
    values = pa.array(flat.astype(np.float32, copy=False))
    return pa.FixedSizeListArray.from_arrays(values, dimensions, mask=mask)


def _rows(entry: Entry, document: int) -> Iterator[dict[str, Any]]:
    yield _row(document, DOCUMENT, 0, id=id_key(entry.document.id), data=_header(entry))
    for at, (_, packed, data) in enumerate(text_rows(document, entry.document.text)):
        yield _row(document, TEXT, at, data=bytes([packed]) + data)
    for at, (_, first, last, data) in enumerate(box_rows(document, entry.boxes)):
        yield _row(document, BOXES, at, start=first, end=last, data=data)
    for at, begin in enumerate(range(0, len(entry.places), PLACES_AT_ONCE)):
        some = entry.places[begin : begin + PLACES_AT_ONCE]
        listed = json.dumps([(place.start, place.end, place.label) for place in some])
        data = zlib.compress(listed.encode(), 1)
        yield _row(document, PLACES, at, start=some[0].start, end=some[-1].end, data=data)
    yield from _chunk_rows(entry, document)


def _chunk_rows(entry: Entry, document: int) -> Iterator[dict[str, Any]]:
    first = first_number(document, CHUNK)
    places = {at: place for place, at in enumerate(searched(entry))}
    positions: dict[int, int] = {}
    for at, chunk in enumerate(entry.chunks):
        position = positions.get(chunk.level, 0)
        positions[chunk.level] = position + 1
        row = _row(
            document,
            CHUNK,
            at,
            start=chunk.start,
            end=chunk.end,
            level=chunk.level,
            position=position,
            parent=None if chunk.parent is None else first + chunk.parent,
            data=chunk.heading.encode("utf-8", "surrogatepass"),
        )
        if at in places:
            words = " ".join(map(word, entry.terms[places[at]]))
            vector = None if entry.vectors is None else entry.vectors[places[at]]
            row |= {"words": words, "vector": vector, "checksum": checksum(words, vector)}
        yield row


def _row(document: int, row: int, at: int, **values: Any) -> dict[str, Any]:
    if at >= _ROOM:
        raise ValueError(f"a document has more than {_ROOM:,} rows of a kind")
    return {"number": first_number(document, row) + at, "row": row, "document": document, **values}


def _header(entry: Entry) -> bytes:
    document = entry.document
    header = {
        "id": document.id,
        "path": entry.path,
        "kind": entry.kind,
        "url": document.url,
        "source": document.source,
        "lang": document.lang,
        "date": document.date,
        "metadata": document.metadata,
        "hash": content_hash(document.text),
        "fingerprint": entry.fingerprint,
        "characters": len(document.text),
        "chunks": len(entry.chunks),
        "searched": len(entry.terms),
        "places": len(entry.places),
    }
    return json.dumps(header).encode()
