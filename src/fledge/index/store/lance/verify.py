"""Everything in a Lance store read again and compared: what does not fit, a line each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from fledge.core.types import content_hash
from fledge.index.store.lance.rows import CHUNK, SHIFT, checksum


def problems(snapshot: Any) -> list[str]:
    """What is wrong with a snapshot."""
    return [*_orphans(snapshot), *(line for n in snapshot.headers for line in _of(snapshot, n))]


def _orphans(snapshot: Any) -> Iterator[str]:
    rows = snapshot.rows("true", ["document"])
    stray = sum(row["number"] >> SHIFT not in snapshot.headers for row in rows)
    if stray:
        yield f"{stray} rows belong to no document"
    if len({row["number"] for row in rows}) != len(rows):
        yield "rows are there twice"


def _of(snapshot: Any, number: int) -> Iterator[str]:
    header = snapshot.headers[number]
    name = f"document {header['id']!r}"
    try:
        document = snapshot.document(header["id"])
        snapshot.boxes(header["id"], 0, header["characters"])
        places = snapshot.places(header["id"])
    except (KeyError, ValueError, zlib.error) as error:
        yield f"{name}: cannot be read ({error})"
        return
    if len(document.text) != header["characters"] or content_hash(document.text) != header["hash"]:
        yield f"{name}: the text is not what its hash {header['hash']} names"
    if len(places) != header["places"]:
        yield f"{name}: places are missing"
    columns = ["start", "end", "level", "words", "checksum"]
    vectors = ["vector"] if snapshot.dimensions else []
    where = f"document = {number} AND row = {CHUNK}"
    rows = snapshot.rows(where, [*columns, *vectors])
    if len(rows) != header["chunks"]:
        yield f"{name}: {len(rows)} chunks of {header['chunks']}"
    for row in rows:
        if not 0 <= row["start"] < row["end"] <= header["characters"]:
            yield f"chunk {row['number']}: outside its document"
        found = checksum(row["words"], row.get("vector")) if row["level"] == 0 else None
        if found != row["checksum"]:
            yield f"chunk {row['number']}: words or vector are not what was written"
