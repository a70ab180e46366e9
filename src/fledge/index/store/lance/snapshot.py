"""One version of the Lance table."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fledge.core.errors import InputError
from fledge.core.types import Document, Span
from fledge.index.loaded import Box, Place
from fledge.index.store.filters import Filter, accepts, checked, fields_of
from fledge.index.store.lance.library import lancedb
from fledge.index.store.lance.rows import (
    BOXES,
    CHUNK,
    DOCUMENT,
    PLACES,
    SHIFT,
    TEXT,
    first_number,
    id_key,
    word,
)
from fledge.index.store.protocol import Found, Hit, Known, Sizes, Vectors
from fledge.index.store.sqlite.texts import PIECE, boxes_in, unpacked

EVERYTHING = 2**31 - 1
PROBES, REFINE = 24, 4
"""Partitions of the vector index that are searched; candidates, for each hit, compared exactly."""
_AT_ONCE = 1000


class LanceSnapshot:
    """See ``Snapshot``."""

    def __init__(self, table: Any, size: Callable[[], int], dead: Callable[[Any], int]) -> None:
        """``table`` is checked out at its version."""
        self._table = table
        self._size = size
        self._dead = dead

    def rows(self, where: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows that an expression accepts, in order of their numbers."""
        query = self._table.search().where(where).select(["number", *columns]).limit(EVERYTHING)
        found: list[dict[str, Any]] = query.to_arrow().to_pylist()
        return sorted(found, key=lambda row: int(row["number"]))

    @cached_property
    def headers(self) -> dict[int, dict[str, Any]]:
        """Document number -> header, of all documents."""
        rows = self.rows(f"row = {DOCUMENT}", ["data"])
        return {row["number"] >> SHIFT: json.loads(row["data"]) for row in rows}

    @property
    def dimensions(self) -> int:
        """Of the vectors; 0 while there are none."""
        schema = self._table.schema
        if "vector" not in schema.names:
            return 0
        return int(schema.field("vector").type.list_size)

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        allowed = self._allowed(where)
        if not self.dimensions or k <= 0 or allowed == "false":
            return []
        asked = np.asarray(vector, dtype=np.float32)
        if asked.shape != (self.dimensions,):
            raise InputError(
                f"the query's vector has shape {asked.shape}, those of the index"
                f" {self.dimensions} dimensions",
                remedy="embed queries with the embedder that the index was built with",
            )
        query = self._table.search(asked, vector_column_name="vector").distance_type("dot")
        query = query.nprobes(PROBES).refine_factor(REFINE)
        if allowed:
            query = query.where(allowed, prefilter=True)
        rows = query.select(["number", "_distance"]).limit(k).to_arrow().to_pylist()
        return _hits((row["number"], 1 - row["_distance"]) for row in rows)

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        allowed = self._allowed(where)
        if not terms or k <= 0 or allowed == "false":
            return []
        text = " ".join(map(word, terms))
        match: Any = lancedb().query.MatchQuery
        query = self._table.search(match(text, "words"), query_type="fts")
        if allowed:
            query = query.where(allowed, prefilter=True)
        rows = query.select(["number", "_score"]).limit(k).to_arrow().to_pylist()
        return _hits((row["number"], row["_score"]) for row in rows)

    def frequencies(self, terms: Sequence[str]) -> list[int]:
        return [len(self.matching([term], EVERYTHING)) for term in terms]

    def _allowed(self, where: Filter | None) -> str:
        """The filter as documents in Lance's language; "": all, "false": none."""
        if where is None:
            return ""
        checked(where)
        chosen: list[str] = []
        others: list[str] = []
        for number, header in self.headers.items():
            fields = fields_of(_document(header, ""), header["path"], header["kind"])
            (chosen if accepts(where, fields) else others).append(str(number))
        if not chosen:
            return "false"
        if not others:
            return ""
        some, negation = (chosen, "") if len(chosen) <= len(others) else (others, "NOT ")
        return f"document {negation}IN ({', '.join(some)})"

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        names = ["row", "start", "end", "level", "position", "parent", "data"]
        rows = self._by_number(numbers, names)
        missing = [n for n in numbers if n not in rows or rows[n]["row"] != CHUNK]
        if missing:
            raise KeyError(f"no chunk has number {missing[0]} in this snapshot")
        owners = {number: first_number(number >> SHIFT, DOCUMENT) for number in numbers}
        headers = {
            number: json.loads(row["data"])
            for number, row in self._by_number(list(owners.values()), ["data"]).items()
        }
        texts = self._texts([(n >> SHIFT, rows[n]["start"], rows[n]["end"]) for n in numbers])
        return [
            self._found(rows[number], headers[owners[number]], text)
            for number, text in zip(numbers, texts, strict=True)
        ]

    def _found(self, row: dict[str, Any], header: dict[str, Any], text: str) -> Found:
        document, start, end = row["number"] >> SHIFT, row["start"], row["end"]
        places = self._places(document, start, start + 1) if header["places"] else []
        return Found(
            chunk=row["number"],
            document=header["id"],
            path=header["path"],
            span=Span(document=header["id"], hash=header["hash"], start=start, end=end),
            text=text,
            heading=row["data"].decode("utf-8", "surrogatepass"),
            parent=row["parent"],
            level=row["level"],
            position=row["position"],
            place=places[0].label if places else "",
            date=header["date"],
            metadata=header["metadata"],
        )

    def _by_number(
        self, numbers: Sequence[int], columns: Sequence[str]
    ) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        wanted = sorted(set(numbers))
        for at in range(0, len(wanted), _AT_ONCE):
            some = ", ".join(map(str, wanted[at : at + _AT_ONCE]))
            found |= {row["number"]: row for row in self.rows(f"number IN ({some})", columns)}
        return found

    def _texts(self, spans: Sequence[tuple[int, int, int]]) -> list[str]:
        """The texts of (document, start, end)."""
        wanted = [
            first_number(document, TEXT) + part
            for document, start, end in spans
            if end > start
            for part in range(start // PIECE, (end - 1) // PIECE + 1)
        ]
        rows = self._by_number(wanted, ["data"])
        pieces = {n: unpacked(row["data"][0], row["data"][1:]) for n, row in rows.items()}
        texts = []
        for document, start, end in spans:
            first = first_number(document, TEXT)
            parts = range(start // PIECE, (end - 1) // PIECE + 1) if end > start else ()
            before = start - start % PIECE
            joined = "".join(pieces[first + part] for part in parts)
            texts.append(joined[start - before : end - before])
        return texts

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {parent: [] for parent in parents}
        if not found:
            return found
        some = ", ".join(map(str, found))
        rows = self.rows(f"parent IN ({some})", ["parent", "start"])
        for row in sorted(rows, key=lambda row: (row["start"], row["number"])):
            found[row["parent"]].append(row["number"])
        return found

    def of_document(self, id: str, level: int = 0) -> list[int]:
        where = f"document = {self._number(id)} AND row = {CHUNK} AND level = {int(level)}"
        rows = self.rows(where, ["start"])
        return [r["number"] for r in sorted(rows, key=lambda r: (r["start"], r["number"]))]

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        found = np.zeros((len(numbers), self.dimensions), dtype=np.float32)
        if not self.dimensions:
            return found
        rows = self._by_number(numbers, ["row", "vector"])
        for at, number in enumerate(numbers):
            if number not in rows:
                raise KeyError(f"no chunk has number {number} in this snapshot")
            if rows[number]["vector"] is not None:
                found[at] = rows[number]["vector"]
        return found

    def _header(self, id: str) -> tuple[int, dict[str, Any]]:
        rows = self.rows(f"id = '{id_key(id)}'", ["data"])
        if not rows:
            raise KeyError(f"no document has the id {id!r}")
        return rows[0]["number"] >> SHIFT, json.loads(rows[0]["data"])

    def _number(self, id: str) -> int:
        return self._header(id)[0]

    def document(self, id: str) -> Document | None:
        try:
            number, header = self._header(id)
        except KeyError:
            return None
        (text,) = self._texts([(number, 0, header["characters"])])
        return _document(header, text)

    def text(self, id: str, start: int, end: int) -> str:
        number, header = self._header(id)
        start, end = max(start, 0), min(end, header["characters"])
        return self._texts([(number, start, end)])[0]

    def places(self, id: str) -> list[Place]:
        return self._places(self._number(id), 0, EVERYTHING)

    def _places(self, document: int, start: int, end: int) -> list[Place]:
        rows = self._pieces(document, PLACES, start, end)
        listed = (json.loads(zlib.decompress(row["data"])) for row in rows)
        places = (Place(start=s, end=e, label=label) for some in listed for s, e, label in some)
        return [place for place in places if place.start < end and place.end > start]

    def boxes(self, id: str, start: int, end: int) -> list[Box]:
        rows = self._pieces(self._number(id), BOXES, start, end)
        return [box for row in rows for box in boxes_in(row["data"], start, end)]

    def _pieces(self, document: int, row: int, start: int, end: int) -> list[dict[str, Any]]:
        first, last = first_number(document, row), first_number(document, row + 1)
        where = f'number >= {first} AND number < {last} AND "start" < {end} AND "end" > {start}'
        return self.rows(where, ["data"])

    def known(self) -> Iterable[Known]:
        found = (
            Known(
                id=header["id"],
                path=header["path"],
                hash=header["hash"],
                fingerprint=header["fingerprint"],
                chunks=header["searched"],
            )
            for header in self.headers.values()
        )
        return sorted(found, key=lambda known: known.id)

    def sizes(self) -> Sizes:
        dimensions = self.dimensions
        vectors = self._table.count_rows("vector IS NOT NULL") if dimensions else 0
        return Sizes(
            documents=len(self.headers),
            chunks=sum(header["searched"] for header in self.headers.values()),
            vectors=vectors,
            dimensions=dimensions,
            characters=sum(header["characters"] for header in self.headers.values()),
            dead=self._dead(self._table),
            bytes=self._size(),
        )


def _document(header: dict[str, Any], text: str) -> Document:
    names = ("id", "url", "source", "lang", "date", "metadata")
    return Document(text=text, **{name: header[name] for name in names})


def _hits(found: Iterable[tuple[int, float]]) -> list[Hit]:
    ordered = sorted(found, key=lambda each: (-each[1], each[0]))
    return [Hit(chunk=number, score=float(score)) for number, score in ordered]
