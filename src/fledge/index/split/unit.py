"""The smallest piece that chunks are made of, and how strong the break before it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Break(IntEnum):
    """Breaks between units, the weakest first: the strongest that is near ends a chunk."""

    NEVER = 0
    """After a heading, before a closing bracket: only if there is no other."""
    PIECE = 1
    """Inside a clause that is too long."""
    CLAUSE = 2
    SENTENCE = 3
    LINE = 4
    PARAGRAPH = 5
    PLACE = 6
    """A row, a slide."""
    HEADING = 7
    """Of the lowest rank; a title of rank 1 has 12."""
    ALWAYS = 13
    """No chunk crosses it."""


@dataclass(frozen=True)
class Unit:
    """``text[start:end]``, begun and ended by something that is not blank."""

    start: int
    end: int
    strength: int
    """Of the break before it (``Break``)."""
