"""What the steps of retrieval work with: a snapshot, and what a door opened for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from fledge.core.protocols import ChatModel
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.store.protocol import Snapshot
from fledge.rag.rarity import rarities
from fledge.rag.telling import asked_for


class Reranker(Protocol):
    """Looks at a question and texts together."""

    name: str

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """One number a text, larger for a better answer, in [0, 1].  FledgeError if it fails."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What may be used with one snapshot.  ``today`` is for the age of documents."""

    snapshot: Snapshot
    embedder: IndexEmbedder | None = None
    """None, or one of 0 dimensions: there are no vectors to compare."""
    model: ChatModel | None = None
    reranker: Reranker | None = None
    today: date = field(default_factory=date.today)
    _rarities: dict[str, dict[str, float]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def vectors(self) -> IndexEmbedder | None:
        """The embedder, when there is one that embeds."""
        return self.embedder if self.embedder is not None and self.embedder.dimensions else None

    def rarity(self, question: str) -> Mapping[str, float]:
        """The terms of a question and how rare each is; counted once a question."""
        if question not in self._rarities:
            self._rarities[question] = rarities(self.snapshot, asked_for(question))
        return self._rarities[question]
