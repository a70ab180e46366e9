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


class Snapshot(Protocol):
    """One state of a store, whatever is written meanwhile."""

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        """The k chunks of level 0 with the largest inner products.  vector (D,)"""

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        """The k chunks of level 0 with the largest BM25 scores."""

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        """The chunks of these numbers, in this order."""

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        """Numbers of the chunks directly below each of these, in the text's order."""

    def document(self, id: str) -> Document | None:
        """A document with its whole text."""

    def known(self) -> Iterable[Known]:
        """All documents, in order of their ids."""


class Store(Protocol):
    """An index on disk or on a server; several processes may read and write it."""

    def settings(self) -> dict[str, Any]:
        """What it was made with: splitter, embedder with revision, versions (plain JSON)."""

    def commit(self, upserts: Iterable[Entry], deletes: Iterable[str] = ()) -> None:
        """Put these documents in the place of their former versions and remove others, at once:
        readers see all of it or nothing, and when it returns it survives a crash."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A consistent view."""

    def close(self) -> None:
        """Let go of files and connections."""
