"""One state of an index on a server: a read-only transaction that sees no later commit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fledge.core.errors import InputError
from fledge.core.types import Document, Span
from fledge.index.loaded import Box, Place
from fledge.index.store.filters import Filter
from fledge.index.store.known import COLUMNS, known_documents
from fledge.index.store.postgres.filtering import condition
from fledge.index.store.postgres.schema import from_bytes, to_bytes
from fledge.index.store.postgres.writing import literal
from fledge.index.store.protocol import Found, Hit, Known, Sizes, Vectors
from fledge.index.store.sqlite.postings import K1, B
from fledge.index.store.sqlite.texts import PIECE, boxes_in, unpacked

WIDEST = 400
"""Hits up to which the index over the vectors is asked; beyond, or filtered, all are compared."""

_MATCHING = f"""
WITH stats AS (
  SELECT count(*)::float8 AS n, greatest(avg(terms), 1e-9)::float8 AS mean
  FROM chunks WHERE level = 0),
asked AS (SELECT * FROM unnest(%s::bytea[], %s::float8[]) AS asked(term, times)),
found AS (
  SELECT p.chunk, p.term, p.count::float8 AS tf, asked.times,
    count(*) OVER (PARTITION BY p.term)::float8 AS df
  FROM postings p JOIN asked ON asked.term = p.term)
SELECT found.chunk, sum(times * ln(1 + (n - df + 0.5) / (df + 0.5)) * {K1 + 1} * tf
    / (tf + {K1} * ({1 - B} + {B} * c.terms / mean))) AS score
FROM found JOIN chunks c ON c.number = found.chunk JOIN documents d ON d.number = c.document, stats
WHERE {{where}}
GROUP BY found.chunk ORDER BY score DESC, found.chunk LIMIT %s
"""


class PostgresSnapshot:
    """See ``Snapshot``."""

    def __init__(self, connection: Any) -> None:
        """``connection`` is inside a transaction of the level REPEATABLE READ."""
        self._connection = connection
        query = "SELECT dimensions FROM state"
        self._dimensions: int = connection.execute(query).fetchone()[0]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._connection.execute(query, values).fetchall()
        return found

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        if not self._dimensions or k <= 0:
            return []
        asked = np.asarray(vector, dtype=np.float32)
        if asked.shape != (self._dimensions,):
            raise InputError(
                f"the query's vector has shape {asked.shape}, those of the index"
                f" {self._dimensions} dimensions",
                remedy="embed queries with the embedder that the index was built with",
            )
        test, bound = ("TRUE", []) if where is None else condition(self._connection, where)
        approximate = where is None and k <= WIDEST
        self._connection.execute(f"SET LOCAL enable_indexscan TO {'on' if approximate else 'off'}")
        self._connection.execute(f"SET LOCAL hnsw.ef_search TO {min(max(100, 2 * k), 1000)}")
        joined = "" if where is None else " JOIN documents d ON d.number = c.document"
        distance = f"c.embedding::vector({self._dimensions}) <#> %s::vector({self._dimensions})"
        given = literal(asked)
        rows = self._rows(
            f"SELECT c.number, -({distance}) FROM chunks c{joined}"
            f" WHERE c.embedding IS NOT NULL AND {test} ORDER BY {distance} LIMIT %s",
            (given, *bound, given, k),
        )
        self._connection.execute("SET LOCAL enable_indexscan TO on")
        return _hits(rows)

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        counts = Counter(terms)
        test, bound = ("TRUE", []) if where is None else condition(self._connection, where)
        asked = ([to_bytes(term) for term in counts], [float(n) for n in counts.values()])
        rows = self._rows(_MATCHING.format(where=test), (*asked, *bound, k))
        return _hits(rows)

    def frequencies(self, terms: Sequence[str]) -> list[int]:
        query = "SELECT term, count(*) FROM postings WHERE term = ANY(%s) GROUP BY term"
        found = dict(self._rows(query, ([to_bytes(term) for term in terms],)))
        return [found.get(to_bytes(term), 0) for term in terms]

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        rows = self._by_number(
            "c.number, c.document, c.start_at, c.end_at, c.level, c.position, c.parent, c.heading,"
            " d.id, d.path, d.hash, d.date, d.metadata, d.places",
            numbers,
        )
        spans = [(rows[n][1], rows[n][2], rows[n][3]) for n in numbers]
        texts = self._texts(spans)
        return [self._found(rows[n], text) for n, text in zip(numbers, texts, strict=True)]

    def _found(self, row: tuple[Any, ...], text: str) -> Found:
        number, document, start, end, level, position, parent, heading = row[:8]
        id, path, hash, date, metadata, places = row[8:]
        within = self._places(document, start, start + 1) if places else []
        return Found(
            chunk=number,
            document=from_bytes(id),
            path=from_bytes(path),
            span=Span(document=from_bytes(id), hash=hash, start=start, end=end),
            text=text,
            heading=from_bytes(heading),
            parent=parent,
            level=level,
            position=position,
            place=within[0].label if within else "",
            date=from_bytes(date),
            metadata=json.loads(metadata),
        )

    def _by_number(self, columns: str, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        query = (
            f"SELECT {columns} FROM chunks c JOIN documents d ON d.number = c.document"
            " WHERE c.number = ANY(%s)"
        )
        rows = {row[0]: row for row in self._rows(query, (list(numbers),))}
        missing = [number for number in numbers if number not in rows]
        if missing:
            raise KeyError(f"no chunk has number {missing[0]} in this snapshot")
        return rows

    def _texts(self, spans: Sequence[tuple[int, int, int]]) -> list[str]:
        """The texts of (document, start, end)."""
        wanted = sorted(
            {
                (document, part)
                for document, start, end in spans
                if end > start
                for part in range(start // PIECE, (end - 1) // PIECE + 1)
            }
        )
        query = (
            "SELECT t.document, t.part, t.packed, t.data FROM texts t JOIN"
            " unnest(%s::bigint[], %s::int[]) AS w(document, part)"
            " ON w.document = t.document AND w.part = t.part"
        )
        rows = self._rows(query, ([d for d, _ in wanted], [p for _, p in wanted]))
        pieces = {(row[0], row[1]): unpacked(row[2], row[3]) for row in rows}
        texts = []
        for document, start, end in spans:
            parts = range(start // PIECE, (end - 1) // PIECE + 1) if end > start else ()
            before = start - start % PIECE
            joined = "".join(pieces[document, part] for part in parts)
            texts.append(joined[start - before : end - before])
        return texts

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {parent: [] for parent in parents}
        query = "SELECT parent, number FROM chunks WHERE parent = ANY(%s) ORDER BY start_at, number"
        for parent, number in self._rows(query, (list(parents),)):
            found[parent].append(number)
        return found

    def of_document(self, id: str, level: int = 0) -> list[int]:
        query = (
            "SELECT number FROM chunks WHERE document = %s AND level = %s ORDER BY start_at, number"
        )
        return [row[0] for row in self._rows(query, (self._row(id, "number")[0], level))]

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        rows = self._by_number("c.number, c.embedding::text", numbers)
        found = np.zeros((len(numbers), self._dimensions), dtype=np.float32)
        for at, number in enumerate(numbers):
            if rows[number][1] is not None:
                found[at] = json.loads(rows[number][1])
        return found

    def _row(self, id: str, columns: str) -> tuple[Any, ...]:
        query = f"SELECT {columns} FROM documents WHERE sha256(id) = sha256(%s)"
        rows = self._rows(query, (to_bytes(id),))
        if not rows:
            raise KeyError(f"no document has the id {id!r}")
        return rows[0]

    def document(self, id: str) -> Document | None:
        try:
            row = self._row(id, "number, characters, url, source, lang, date, metadata")
        except KeyError:
            return None
        number, characters, url, source, lang, date, metadata = row
        return Document(
            id=id,
            text=self._texts([(number, 0, characters)])[0],
            url=from_bytes(url),
            source=from_bytes(source),
            lang=from_bytes(lang),
            date=from_bytes(date),
            metadata=json.loads(metadata),
        )

    def text(self, id: str, start: int, end: int) -> str:
        number, characters = self._row(id, "number, characters")
        return self._texts([(number, max(start, 0), min(end, characters))])[0]

    def places(self, id: str) -> list[Place]:
        number, characters = self._row(id, "number, characters")
        return self._places(number, 0, characters + 1)

    def _places(self, document: int, start: int, end: int) -> list[Place]:
        query = (
            "SELECT start_at, end_at, label FROM places WHERE document = %s AND start_at < %s"
            " AND end_at > %s ORDER BY start_at"
        )
        rows = self._rows(query, (document, end, start))
        return [Place(start=a, end=b, label=from_bytes(label)) for a, b, label in rows]

    def boxes(self, id: str, start: int, end: int) -> list[Box]:
        query = (
            "SELECT data FROM boxes WHERE document = %s AND first < %s AND last > %s ORDER BY part"
        )
        rows = self._rows(query, (self._row(id, "number")[0], end, start))
        return [box for (data,) in rows for box in boxes_in(data, start, end)]

    def known(self) -> Iterable[Known]:
        return known_documents(self._rows(f"SELECT {COLUMNS} FROM documents"), from_bytes)

    def sizes(self) -> Sizes:
        query = "SELECT count(*), coalesce(sum(characters), 0)::bigint FROM documents"
        ((documents, characters),) = self._rows(query)
        query = "SELECT count(*), count(embedding) FROM chunks WHERE level = 0"
        ((chunks, vectors),) = self._rows(query)
        query = (
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
            " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'"
        )
        ((size,),) = self._rows(query)
        return Sizes(
            documents=documents,
            chunks=chunks,
            vectors=vectors,
            dimensions=self._dimensions,
            characters=characters,
            dead=0 if indexed(self._connection) or vectors < INDEX_FROM else vectors,
            bytes=size,
        )


INDEX_FROM = 20_000
"""Vectors from which on an index is made; the server keeps it up to date by itself."""
INDEX = "chunks_by_embedding"


def indexed(connection: Any) -> bool:
    """Whether there is an index over the vectors."""
    query = "SELECT to_regclass(%s) IS NOT NULL"
    return bool(connection.execute(query, (INDEX,)).fetchone()[0])


def _hits(rows: Sequence[tuple[Any, ...]]) -> list[Hit]:
    ordered = sorted(
        ((float(score), number) for number, score in rows), key=lambda x: (-x[0], x[1])
    )
    return [Hit(chunk=number, score=score) for score, number in ordered]
