"""A chunk: the piece of a document that is searched, or a larger one around it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """``text[start:end]`` of its document, to the character.

    ``level`` 0 is searched; higher ones are the larger chunks of a hierarchy.  ``parent`` is the
    place of the enclosing chunk in the document's list of chunks, None at the top.
    """

    start: int
    end: int
    level: int = 0
    parent: int | None = None
    heading: str = ""
    """Titles above it, outermost first: "Design > Loads"."""
