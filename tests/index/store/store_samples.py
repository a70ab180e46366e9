"""Entries made from few words, so that their searches have hits; a plain model of a store."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from fledge.core.types import Document, content_hash
from fledge.index.chunk import Chunk
from fledge.index.loaded import Box, Place
from fledge.index.store.filters import Filter, accepts, fields_of
from fledge.index.store.protocol import Entry, Snapshot, Store, Vectors

DIMENSIONS = 8
SETTINGS = {"embedder": "sample", "split": {"size": 20}}
WORDS = (
    "bridge",
    "steel",
    "river",
    "arch",
    "香港",
    "港",
    "橋",
    "c++",
    "o'neil",
    'a"b',
    "%_*",
    "近",
)

Opener = Callable[[], Store]
"""The same store, opened once more."""


def vector_of(text: str, dimensions: int = DIMENSIONS) -> Vectors:
    """A unit vector (D,) that only depends on the text."""
    drawn = np.random.default_rng(zlib.crc32(text.encode("utf-8", "surrogatepass")))
    vector = drawn.standard_normal(dimensions).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def entry(id: str, text: str, *, size: int = 20, vectors: bool = True, **changes: Any) -> Entry:
    """An entry whose chunks are runs of ``size`` characters, two of them below a parent."""
    starts = range(0, len(text), size)
    small = [(start, min(start + size, len(text))) for start in starts]
    parents = [
        (small[at][0], small[min(at + 1, len(small) - 1)][1]) for at in range(0, len(small), 2)
    ]
    chunks = tuple(
        [Chunk(start=a, end=b, level=1) for a, b in parents]
        + [
            Chunk(start=a, end=b, parent=at // 2, heading=f"Part {at}")
            for at, (a, b) in enumerate(small)
        ]
    )
    names = ("url", "source", "lang", "date", "metadata")
    document = Document(id=id, text=text, **{k: v for k, v in changes.items() if k in names})
    return Entry(
        document=document,
        path=changes.get("path", f"files/{id}"),
        kind=changes.get("kind", "plain"),
        fingerprint=changes.get("fingerprint", content_hash(text)),
        chunks=chunks,
        terms=tuple(tuple(text[a:b].split()) for a, b in small),
        vectors=np.array([vector_of(text[a:b]) for a, b in small], dtype=np.float32).reshape(
            len(small), DIMENSIONS
        )
        if vectors
        else None,
        places=tuple(
            Place(start=a, end=b, label=f"page {at + 1}") for at, (a, b) in enumerate(parents)
        ),
        boxes=tuple(
            Box(start=a, end=b, page=1, left=1.5, bottom=2.0, right=3.0, top=4.25) for a, b in small
        ),
    )


def drawn_text(drawn: random.Random, words: int = 30) -> str:
    """A text of the sample's words."""
    return " ".join(drawn.choice(WORDS) for _ in range(words))


class Model:
    """What a store must say, computed from a dict of entries the slow way."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def commit(self, upserts: list[Entry], deletes: list[str]) -> None:
        for id in deletes:
            self.entries.pop(id, None)
        self.entries.update({each.document.id: each for each in upserts})

    def searched(
        self, where: Filter | None = None
    ) -> dict[tuple[str, int, int], tuple[Entry, int]]:
        """(document, start, end) -> entry and place of each level-0 chunk."""
        found = {}
        for id, each in self.entries.items():
            if where and not accepts(where, fields_of(each.document, each.path, each.kind)):
                continue
            small = [chunk for chunk in each.chunks if chunk.level == 0]
            for at, chunk in enumerate(small):
                found[id, chunk.start, chunk.end] = (each, at)
        return found

    def nearest(self, vector: Vectors, where: Filter | None = None) -> dict[Any, float]:
        return {
            key: float(each.vectors[at] @ vector)
            for key, (each, at) in self.searched(where).items()
            if each.vectors is not None
        }

    def matching(self, terms: list[str], where: Filter | None = None) -> dict[Any, float]:
        """BM25 by its formula."""
        everything = {key: each.terms[at] for key, (each, at) in self.searched().items()}
        mean = sum(map(len, everything.values())) / max(len(everything), 1)
        total = Counter[Any]()
        for term in terms:
            holding = {key: t.count(term) for key, t in everything.items() if term in t}
            idf = log(1 + (len(everything) - len(holding) + 0.5) / (len(holding) + 0.5))
            for key, tf in holding.items():
                length = len(everything[key]) / mean
                total[key] += idf * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * length))
        kept = self.searched(where)
        return {key: score for key, score in total.items() if key in kept}


def scored(snapshot: Snapshot, hits: list[Any]) -> dict[tuple[str, int, int], float]:
    """(document, start, end) -> score, every hit's text and span checked against its document."""
    found = {}
    for hit, seen in zip(hits, snapshot.chunks([hit.chunk for hit in hits]), strict=True):
        document = snapshot.document(seen.document)
        assert document is not None
        assert seen.span.quote(document) == seen.text
        assert seen.level == 0
        found[seen.document, seen.span.start, seen.span.end] = hit.score
    assert len(found) == len(hits), "a chunk was found twice"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return found
