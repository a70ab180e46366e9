"""What a store can do: take documents whole, give a consistent view, search it two ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fledge.core.types import Document, Span
from fledge.index.chunk import Chunk
from fledge.index.loaded import Box, Place
from fledge.index.store.filters import Filter

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A document as it is stored.

    ``vectors`` (c, D) float32 of unit length and ``terms`` (c token lists) belong to the ``c``
    chunks of level 0, in their order.
    """

    document: Document
    path: str
    kind: str
    fingerprint: str
    """Of the file and of all settings that shape the entry: same fingerprint, nothing to do."""
    chunks: tuple[Chunk, ...]
    terms: tuple[tuple[str, ...], ...]
    vectors: Vectors | None = None
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an index says of a document it holds."""

    id: str
    path: str
    hash: str
    fingerprint: str
    chunks: int
    """Of level 0."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that was found.  ``chunk`` is its number in the store, valid in one snapshot."""

    chunk: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """A chunk with all that is needed to show it: ``text`` is the document's [start, end)."""

    chunk: int
    document: str
    path: str
    span: Span
    text: str
    heading: str
    parent: int | None
    """The store's number of the enclosing chunk."""
    level: int
    position: int
    """The chunk's place among those of its document and level."""
    place: str
    """Label of the place where it begins: "page 3", or ""."""
    date: str
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much a store holds."""

    documents: int
    chunks: int
    """Of level 0: those that are searched."""
    vectors: int
    """Of them, those with a vector."""
    dimensions: int
    """Of the vectors; 0 while there is none."""
    characters: int
    """Of all texts together."""
    dead: int
    """Chunks that ``Store.compact`` would clear away or take into an index."""
    bytes: int
    """On disk (0 where a server does not tell)."""


class Snapshot(Protocol):
    """One state of a store, whatever is written meanwhile.  For one thread at a time."""

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        """The k chunks of level 0 with the largest inner products.  vector (D,)"""

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        """The k chunks of level 0 with the largest BM25 scores, all above 0."""

    def frequencies(self, terms: Sequence[str]) -> list[int]:
        """How many chunks of level 0 hold each of the terms; 0 for one that is nowhere."""

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        """The chunks of these numbers, in this order; raises KeyError for a number unknown."""

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        """Numbers of the chunks directly below each of these, in the text's order."""

    def of_document(self, id: str, level: int = 0) -> list[int]:
        """Numbers of a document's chunks of one level, in the text's order."""

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """The vectors (n, D) of these chunks; zeros for a chunk without one."""

    def document(self, id: str) -> Document | None:
        """A document with its whole text."""

    def text(self, id: str, start: int, end: int) -> str:
        """``text[start:end]`` of a document, without reading the rest; KeyError if unknown."""

    def places(self, id: str) -> list[Place]:
        """The places of a document, in the text's order."""

    def boxes(self, id: str, start: int, end: int) -> list[Box]:
        """The boxes of a document that overlap [start, end), in the text's order."""

    def known(self) -> Iterable[Known]:
        """All documents, in order of their ids."""

    def sizes(self) -> Sizes:
        """How much there is."""


class Store(Protocol):
    """An index on disk or on a server; several processes may read and write it."""

    def settings(self) -> dict[str, Any]:
        """What it was made with: splitter, embedder with revision, versions (plain JSON)."""

    def commit(self, upserts: Iterable[Entry], deletes: Iterable[str] = ()) -> None:
        """Put these documents in the place of their former versions and remove others, at once:
        readers see all of it or nothing, and when it returns it survives a crash."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A consistent view."""

    def compact(self) -> None:
        """Give back the space of what was replaced and removed; searches become faster."""

    def verify(self) -> list[str]:
        """Everything read and checked: what is wrong, a line each; empty when all is well."""

    def close(self) -> None:
        """Let go of files and connections."""
