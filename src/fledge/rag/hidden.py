"""A snapshot without some of its chunks: what is answered when the answering passage is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fledge.core.types import Document
from fledge.index.loaded import Box, Place
from fledge.index.store.filters import Filter
from fledge.index.store.protocol import Found, Hit, Known, Sizes, Snapshot, Vectors
from fledge.index.terms import terms as terms_of


class Hidden:
    """``snapshot`` as if the chunks ``gone`` could not be found; documents keep their text."""

    def __init__(self, snapshot: Snapshot, gone: Collection[int]) -> None:
        self._inner, self._gone = snapshot, frozenset(gone)
        bags = [set(terms_of(one.text)) for one in snapshot.chunks(sorted(self._gone))]
        self._bags = bags

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Hit]:
        """Of the chunks that are left."""
        return self._kept(self._inner.nearest(vector, k + len(self._gone), where), k)

    def matching(self, terms: Sequence[str], k: int, where: Filter | None = None) -> list[Hit]:
        """Of the chunks that are left; their scores are those of the whole."""
        return self._kept(self._inner.matching(terms, k + len(self._gone), where), k)

    def frequencies(self, terms: Sequence[str]) -> list[int]:
        """Among the chunks that are left."""
        counts = self._inner.frequencies(terms)
        lost = [sum(term in bag for bag in self._bags) for term in terms]
        return [max(0, n - gone) for n, gone in zip(counts, lost, strict=True)]

    def _kept(self, hits: Iterable[Hit], k: int) -> list[Hit]:
        return [hit for hit in hits if hit.chunk not in self._gone][:k]

    def chunks(self, numbers: Sequence[int]) -> list[Found]:
        """As they are."""
        return self._inner.chunks(numbers)

    def children(self, parents: Sequence[int]) -> dict[int, list[int]]:
        """As they are."""
        return self._inner.children(parents)

    def of_document(self, id: str, level: int = 0) -> list[int]:
        """Those that are left."""
        return [n for n in self._inner.of_document(id, level) if n not in self._gone]

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """As they are."""
        return self._inner.vectors(numbers)

    def document(self, id: str) -> Document | None:
        """As it is."""
        return self._inner.document(id)

    def text(self, id: str, start: int, end: int) -> str:
        """As it is."""
        return self._inner.text(id, start, end)

    def places(self, id: str) -> list[Place]:
        """As they are."""
        return self._inner.places(id)

    def boxes(self, id: str, start: int, end: int) -> list[Box]:
        """As they are."""
        return self._inner.boxes(id, start, end)

    def known(self) -> Iterable[Known]:
        """As they are."""
        return self._inner.known()

    def sizes(self) -> Sizes:
        """Of the whole."""
        return self._inner.sizes()
