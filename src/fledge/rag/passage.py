"""What retrieval gives: a passage that is exactly a span of a document, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fledge.core.types import Message, Span
from fledge.index.store.filters import Filter


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question, its conversation so far, and which documents may answer it."""

    text: str
    history: tuple[Message, ...] = ()
    where: Filter | None = None


@dataclass(frozen=True, kw_only=True)
class Passage:
    """``text`` is the span's, to the character: a chunk, its window, or chunks merged."""

    span: Span
    text: str
    path: str
    score: float
    place: str = ""
    """Where it begins in the file: "page 3"."""
    heading: str = ""
    date: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    found: tuple[int, ...] = ()
    """Numbers of the chunks that were found and led here, best first."""
    scores: dict[str, float] = field(default_factory=dict)
    """What each step gave it: "dense", "lexical", "fused", "rerank"."""
