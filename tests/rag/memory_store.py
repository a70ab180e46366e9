"""A snapshot in memory and an embedder without weights, to test retrieval without a store."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fledge.core.types import Document, Span
from fledge.index.chunk import Chunk
from fledge.index.loaded import Box, Place
from fledge.index.sentences import sentences
from fledge.index.store.filters import Filter, accepts, fields_of
from fledge.index.store.protocol import Entry, Found, Hit, Known, Sizes, Vectors
from fledge.index.terms import terms

DIMENSIONS = 64


class HashEmbedder:
    """Hashed terms as vectors: near when texts share terms.  Serves what it is told to."""

    name, revision, dimensions = "hash", "1", DIMENSIONS

    def __init__(self, languages: tuple[str, ...] = ("en", "zh")) -> None:
        self.languages = languages

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term in terms(text):
                row[int(hashlib.sha256(term.encode()).hexdigest(), 16) % DIMENSIONS] += 1
            row /= max(float(np.linalg.norm(row)), 1e-9)
        return rows

    embed_queries = embed

    def serves(self, language: str) -> float:
        return 1.0 if language.partition("-")[0] in self.languages else 0.0

    def close(self) -> None:
        return None


def entry(
    document: Document,
    chunks: Sequence[Chunk],
    embedder: HashEmbedder | None = None,
    places: Sequence[Place] = (),
) -> Entry:
    """A document with chunks as a builder would store it."""
    texts = [document.text[c.start : c.end] for c in chunks if c.level == 0]
    return Entry(
        document=document,
        path=f"{document.id}.txt",
        kind="plain",
        fingerprint="",
        chunks=tuple(chunks),
        terms=tuple(tuple(terms(text)) for text in texts),
        vectors=embedder.embed(texts) if embedder and texts else None,
        places=tuple(places),
    )


def sentence_chunks(text: str, per: int = 1) -> list[Chunk]:
    """``per`` sentences a chunk."""
    spans = sentences(text)
    groups = [spans[i : i + per] for i in range(0, len(spans), per)]
    return [Chunk(start=group[0][0], end=group[-1][1]) for group in groups]


def family(text: str, children: int = 3) -> list[Chunk]:
    """Sentences as chunks, and every ``children`` of them under a parent."""
    small = sentence_chunks(text)
    parents, found = [], []
    for first in range(0, len(small), children):
        group = small[first : first + children]
        parents.append(Chunk(start=group[0].start, end=group[-1].end, level=1))
    for place, chunk in enumerate(small):
        found.append(Chunk(start=chunk.start, end=chunk.end, parent=place // children))
    return [*parents, *found]


class MemorySnapshot:
    """The protocol ``Snapshot`` over entries, with BM25 written out."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = list(entries)
        self.rows: list[tuple[Entry, Chunk, int | None, int]] = []
        self.bags: dict[int, Counter[str]] = {}
        self.rows_of: dict[int, np.ndarray[Any, Any]] = {}
        for one in self.entries:
            base, level0, positions = len(self.rows), 0, Counter[int]()
            for chunk in one.chunks:
                number = len(self.rows)
                parent = None if chunk.parent is None else base + chunk.parent
                self.rows.append((one, chunk, parent, positions[chunk.level]))
                positions[chunk.level] += 1
                if chunk.level == 0:
                    self.bags[number] = Counter(one.terms[level0])
                    if one.vectors is not None:
                        self.rows_of[number] = one.vectors[level0]
                    level0 += 1
        self.counts = Counter(term for bag in self.bags.values() for term in bag)

    def _open(self, where: Filter | None) -> list[int]:
        kept = [
            where is None or accepts(where, fields_of(one.document, one.path, one.kind))
            for one in self.entries
        ]
        allowed = {id(one) for one, keep in zip(self.entries, kept, strict=True) if keep}
        return [number for number in self.bags if id(self.rows[number][0]) in allowed]

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        hits = [
            Hit(chunk=number, score=float(self.rows_of[number] @ vector))
            for number in self._open(where)
            if number in self.rows_of
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk))[:k]

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        total = len(self.bags)
        mean = sum(sum(bag.values()) for bag in self.bags.values()) / max(total, 1)
        hits = []
        for number in self._open(where):
            bag, score = self.bags[number], 0.0
            norm = 1.2 * (0.25 + 0.75 * sum(bag.values()) / max(mean, 1e-9))
            for term in terms:
                n, tf = self.counts[term], bag[term]
                idf = math.log1p((total - n + 0.5) / (n + 0.5))
                score += idf * tf * 2.2 / (tf + norm) if tf else 0.0
            if score > 0:
                hits.append(Hit(chunk=number, score=score))
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk))[:k]

    def frequencies(self, terms: Sequence[str]) -> list[int]:
        return [self.counts[term] for term in terms]

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        return [self._found(number) for number in numbers]

    def _found(self, number: int) -> Found:
        if not 0 <= number < len(self.rows):
            raise KeyError(number)
        one, chunk, parent, position = self.rows[number]
        labels = [p.label for p in one.places if p.start <= chunk.start < p.end]
        return Found(
            chunk=number,
            document=one.document.id,
            path=one.path,
            span=Span.of(one.document, chunk.start, chunk.end),
            text=one.document.text[chunk.start : chunk.end],
            heading=chunk.heading,
            parent=parent,
            level=chunk.level,
            position=position,
            place=labels[0] if labels else "",
            date=one.document.date,
            metadata=one.document.metadata,
        )

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        return {p: [n for n, row in enumerate(self.rows) if row[2] == p] for p in parents}

    def of_document(self, id: str, level: int = 0) -> list[int]:
        return [
            number
            for number, (one, chunk, _, _) in enumerate(self.rows)
            if one.document.id == id and chunk.level == level
        ]

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        zero = np.zeros(DIMENSIONS, dtype=np.float32)
        return np.array([self.rows_of.get(number, zero) for number in numbers])

    def _entry(self, id: str) -> Entry:
        return next(one for one in self.entries if one.document.id == id)

    def document(self, id: str) -> Document | None:
        return next((one.document for one in self.entries if one.document.id == id), None)

    def text(self, id: str, start: int, end: int) -> str:
        return self._entry(id).document.text[start:end]

    def places(self, id: str) -> list[Place]:
        return list(self._entry(id).places)

    def boxes(self, id: str, start: int, end: int) -> list[Box]:
        return [b for b in self._entry(id).boxes if b.start < end and start < b.end]

    def known(self) -> Iterable[Known]:
        return [
            Known(id=one.document.id, path=one.path, hash="", fingerprint="", chunks=len(one.terms))
            for one in sorted(self.entries, key=lambda one: one.document.id)
        ]

    def sizes(self) -> Sizes:
        characters = sum(len(one.document.text) for one in self.entries)
        return Sizes(
            documents=len(self.entries),
            chunks=len(self.bags),
            vectors=len(self.rows_of),
            dimensions=DIMENSIONS if self.rows_of else 0,
            characters=characters,
            dead=0,
            bytes=0,
        )


def shelf(
    texts: dict[str, str], embedder: HashEmbedder | None = None, per: int = 1, **fields: str
) -> MemorySnapshot:
    """A snapshot of plain texts by id, a chunk for every ``per`` sentences."""
    return MemorySnapshot(
        entry(Document(id=id, text=text, **fields), sentence_chunks(text, per), embedder)
        for id, text in texts.items()
    )
