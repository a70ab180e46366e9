"""A passage in, its sentences with their terms out, worked out once for all that look at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fledge.index.sentences import sentences
from fledge.index.terms import terms


@dataclass(frozen=True)
class Part:
    """The sentence ``text[start:end]`` of a passage."""

    start: int
    end: int
    terms: tuple[str, ...]


@lru_cache(maxsize=1024)
def parts(text: str) -> tuple[Part, ...]:
    """The sentences of ``text``, in order."""
    return tuple(Part(start, end, tuple(terms(text[start:end]))) for start, end in sentences(text))
