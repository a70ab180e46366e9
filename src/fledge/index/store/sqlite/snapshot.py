"""One state of the store: searches over its arrays, rows read when they are asked for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import InputError
from fledge.core.types import Document, Span
from fledge.index.loaded import Box, Place
from fledge.index.store.filters import Filter
from fledge.index.store.known import COLUMNS, known_documents
from fledge.index.store.protocol import Found, Hit, Known, Sizes, Vectors
from fledge.index.store.sqlite.filtering import documents_of
from fledge.index.store.sqlite.postings import bm25, frequencies
from fledge.index.store.sqlite.schema import from_sql, to_sql
from fledge.index.store.sqlite.slots import SlotView, best
from fledge.index.store.sqlite.texts import PARTS, PIECE, boxes_in, keys_of, unpacked

FEW = 8
"""Vectors are gathered rather than all compared when a filter leaves less than one in ``FEW``."""
_AT_ONCE = 500


class SqliteSnapshot:
    """See ``Snapshot``.  Holds a read transaction of ``connection`` until that is ended."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        view: SlotView,
        vectors: Vectors,
        size: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._view = view
        self._vectors = vectors
        self._size = size

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        if not len(self._vectors):
            return []
        asked = np.asarray(vector, dtype=np.float32)
        if asked.shape != (self._vectors.shape[1],):
            raise InputError(
                f"the query's vector has shape {asked.shape}, those of the index"
                f" {self._vectors.shape[1]} dimensions",
                remedy="embed queries with the embedder that the index was built with",
            )
        allowed = self._view.with_vector
        if where is not None:
            allowed = allowed & self._allowed(where)
        few = int(allowed.sum()) * FEW < len(allowed)
        if few:
            slots = np.flatnonzero(allowed)
            scores = self._vectors[slots] @ asked
            chosen = best(scores, k)
            return self._hits(slots[chosen], scores[chosen])
        scores = np.where(allowed, self._vectors @ asked, np.float32(-np.inf))
        chosen = best(scores, k)
        return self._hits(chosen, scores[chosen])

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        scores = bm25(self._connection, terms, self._view)
        if where is not None:
            scores[~self._allowed(where)] = 0
        slots = np.flatnonzero(scores > 0)
        chosen = slots[best(scores[slots], k)]
        return self._hits(chosen, scores[chosen])

    def frequencies(self, terms: Sequence[str]) -> list[int]:
        return frequencies(self._connection, terms, self._view)

    def _allowed(self, where: Filter) -> NDArray[np.bool_]:
        return self._view.of_documents(documents_of(self._connection, where))

    def _hits(self, slots: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        numbers = self._view.slots["chunk"][slots].tolist()
        return [
            Hit(chunk=number, score=score)
            for number, score in zip(numbers, scores.tolist(), strict=True)
        ]

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        rows = self._by_number(
            "SELECT c.number, c.document, c.start, c.end, c.level, c.position, c.parent, c.heading,"
            " d.id, d.path, d.hash, d.date, d.metadata, d.places"
            " FROM chunks c JOIN documents d ON d.number = c.document WHERE c.number",
            numbers,
        )
        pieces = _Pieces(self._connection)
        return [self._found(rows[number], pieces) for number in numbers]

    def _found(self, row: tuple[Any, ...], pieces: _Pieces) -> Found:
        number, document, start, end, level, position, parent, heading = row[:8]
        id, path, hash, date, metadata, places = row[8:]
        return Found(
            chunk=number,
            document=from_sql(id),
            path=from_sql(path),
            span=Span(document=from_sql(id), hash=hash, start=start, end=end),
            text=pieces.text(document, start, end),
            heading=from_sql(heading),
            parent=parent,
            level=level,
            position=position,
            place=self._place(document, start) if places else "",
            date=from_sql(date),
            metadata=json.loads(metadata),
        )

    def _place(self, document: int, at: int) -> str:
        row = self._connection.execute(
            "SELECT label, end FROM places WHERE document = ? AND start <= ?"
            " ORDER BY start DESC LIMIT 1",
            (document, at),
        ).fetchone()
        return from_sql(row[0]) if row is not None and row[1] > at else ""

    def _by_number(self, query: str, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """Rows of ``query``, which ends before "IN (...)", by their first column."""
        rows: dict[int, tuple[Any, ...]] = {}
        wanted = list(dict.fromkeys(numbers))
        for at in range(0, len(wanted), _AT_ONCE):
            some = wanted[at : at + _AT_ONCE]
            places = ", ".join("?" * len(some))
            for row in self._connection.execute(f"{query} IN ({places})", some):
                rows[row[0]] = row
        missing = [number for number in wanted if number not in rows]
        if missing:
            raise KeyError(f"no chunk has number {missing[0]} in this snapshot")
        return rows

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        query = "SELECT number FROM chunks WHERE parent = ? ORDER BY start, number"
        return {
            parent: [row[0] for row in self._connection.execute(query, (parent,))]
            for parent in parents
        }

    def of_document(self, id: str, level: int = 0) -> list[int]:
        first, count = self._document_row(id, "first_chunk, chunks")
        query = (
            "SELECT number FROM chunks WHERE number BETWEEN ? AND ? AND level = ?"
            " ORDER BY start, number"
        )
        rows = self._connection.execute(query, (first, first + count - 1, level))
        return [row[0] for row in rows]

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        slots = self._by_number("SELECT number, slot FROM chunks WHERE number", numbers)
        found = np.zeros((len(numbers), self._vectors.shape[1]), dtype=np.float32)
        for at, number in enumerate(numbers):
            slot = slots[number][1]
            if slot is not None and slot < len(self._vectors):
                found[at] = self._vectors[slot]
        return found

    def document(self, id: str) -> Document | None:
        names = "number, characters, url, source, lang, date, metadata"
        try:
            number, characters, *plain, metadata = self._document_row(id, names)
        except KeyError:
            return None
        url, source, lang, date = map(from_sql, plain)
        return Document(
            id=id,
            text=_Pieces(self._connection).text(number, 0, characters),
            url=url,
            source=source,
            lang=lang,
            date=date,
            metadata=json.loads(metadata),
        )

    def text(self, id: str, start: int, end: int) -> str:
        number, characters = self._document_row(id, "number, characters")
        start, end = max(start, 0), min(end, characters)
        return _Pieces(self._connection).text(number, start, end)

    def places(self, id: str) -> list[Place]:
        query = "SELECT start, end, label FROM places WHERE document = ? ORDER BY start"
        rows = self._connection.execute(query, self._document_row(id, "number"))
        return [Place(start=start, end=end, label=from_sql(label)) for start, end, label in rows]

    def boxes(self, id: str, start: int, end: int) -> list[Box]:
        base = self._document_row(id, "number")[0] << PARTS
        rows = self._connection.execute(
            "SELECT data FROM boxes WHERE key BETWEEN ? AND ? AND first < ? AND last > ?"
            " ORDER BY key",
            (base, base + (1 << PARTS) - 1, end, start),
        )
        return [box for (data,) in rows for box in boxes_in(data, start, end)]

    def _document_row(self, id: str, names: str) -> tuple[Any, ...]:
        query = f"SELECT {names} FROM documents WHERE id = ?"
        row: tuple[Any, ...] | None = self._connection.execute(query, (to_sql(id),)).fetchone()
        if row is None:
            raise KeyError(f"no document has the id {id!r}")
        return row

    def known(self) -> Iterable[Known]:
        return known_documents(
            self._connection.execute(f"SELECT {COLUMNS} FROM documents"), from_sql
        )

    def sizes(self) -> Sizes:
        query = "SELECT count(*), coalesce(sum(characters), 0) FROM documents"
        documents, characters = self._connection.execute(query).fetchone()
        return Sizes(
            documents=documents,
            chunks=self._view.count,
            vectors=int(self._view.with_vector.sum()),
            dimensions=self._vectors.shape[1],
            characters=characters,
            dead=len(self._view.slots) - self._view.count,
            bytes=self._size(),
        )


class _Pieces:
    """Texts, the pieces read so far kept: hits of one document often stand close together."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, str] = {}

    def text(self, document: int, start: int, end: int) -> str:
        """text[start:end] of a document that has at least ``end`` characters."""
        if start >= end:
            return ""
        first, last = keys_of(document, start, end)
        joined = "".join(self._read(first, last))
        before = start - start % PIECE
        return joined[start - before : end - before]

    def _read(self, first: int, last: int) -> Iterator[str]:
        for key in range(first, last + 1):
            if key not in self._known:
                query = "SELECT packed, data FROM texts WHERE key = ?"
                row = self._connection.execute(query, (key,)).fetchone()
                if row is None:
                    raise sqlite3.DatabaseError(f"piece {key} of a text is missing")
                self._known[key] = unpacked(*row)
            yield self._known[key]
