"""An answer with its citations: each a span that was checked, in the form people and JSON see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fledge.core.types import Span
from fledge.index.store.protocol import Snapshot
from fledge.rag.passage import Passage
from fledge.rag.trace import Trace


@dataclass(frozen=True, kw_only=True)
class Citation:
    """``marker`` in the answer stands for ``quote``, which is the document's text at ``span``."""

    marker: str
    """ "[1]"."""
    path: str
    span: Span
    quote: str
    place: str = ""
    """ "page 3"."""
    highlights: tuple[tuple[int, int], ...] = ()
    """What in it answers: [start, end) in the document's text, inside the span."""

    def holds(self, snapshot: Snapshot) -> bool:
        """Whether the document has this very text at this very place."""
        span = self.span
        try:
            text = snapshot.text(span.document, span.start, span.end)
        except KeyError:
            return False
        return bool(text) and text == self.quote

    def to_json(self) -> dict[str, Any]:
        """As ``fledge ask --json`` and the server write it."""
        return {
            "marker": self.marker,
            "path": self.path,
            "document": self.span.document,
            "start": self.span.start,
            "end": self.span.end,
            "quote": self.quote,
            "place": self.place,
        }


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said, and on what it rests."""

    text: str
    supported: bool
    """False: the documents do not answer the question, and ``text`` says so."""
    citations: tuple[Citation, ...] = ()
    support: float = 0.0
    """Estimated probability that the passages answer the question."""
    dropped: tuple[str, ...] = ()
    """Sentences of a model that no passage bears out; they are not part of ``text``."""
    passages: tuple[Passage, ...] = ()
    trace: Trace = field(default_factory=Trace)

    def to_json(self) -> dict[str, Any]:
        """The contract of ``fledge ask --json``."""
        return {
            "answer": self.text,
            "supported": self.supported,
            "citations": [citation.to_json() for citation in self.citations],
        }
