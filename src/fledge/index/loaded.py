"""A file as a loader read it: a Document, and where in the file each part of its text stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from fledge.core.types import Document


@dataclass(frozen=True, kw_only=True)
class Place:
    """``text[start:end]`` of a document stands at ``label``: "page 3", "slide 2", "row 14"."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where ``text[start:end]`` is drawn: points (1/72 inch) from the lower left of a page."""

    start: int
    end: int
    page: int
    """From 1."""
    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a loader gives for one document.

    ``document.id`` is stable over versions of the file (its path below the input, and the member
    of an archive or the row of a table); ``document.metadata`` holds plain JSON values that
    filters may ask for.  ``places`` are in the text's order and do not overlap.
    """

    document: Document
    path: str
    """What people know the document by: a file path or a URL."""
    kind: str
    """How its text is written, for splitters: "plain", "markdown", "code:<language>", "rows"."""
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A file that was not read; ``reason`` is a stable short word, ``evidence`` what was seen."""

    path: str
    reason: str
    evidence: str = ""
