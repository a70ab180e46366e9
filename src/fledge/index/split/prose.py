"""Prose and Markdown in, sentences with the breaks between them out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from fledge.index.loaded import Loaded
from fledge.index.sentences import sentences
from fledge.index.split.measure import trimmed
from fledge.index.split.outline import Outline, fences, markdown_titles, plain_titles
from fledge.index.split.unit import Break, Unit

SEPARATE = ("row", "slide", "sheet", "message")
"""Labels of places that are apart from each other, as pages of running text are not."""


def prose_outline(loaded: Loaded) -> Outline:
    """The titles of a text that is no source code."""
    text = loaded.document.text
    find = markdown_titles if loaded.kind == "markdown" else plain_titles
    return Outline(text, find(text))


def prose_units(loaded: Loaded, outline: Outline) -> list[Unit]:
    """Sentences; the break before each is as strong as what begins there."""
    text = loaded.document.text
    titles = [(title.start, Break.HEADING + max(0, 6 - title.rank)) for title in outline.titles]
    places = [(place.start, _of_place(loaded, place.label)) for place in loaded.places]
    begun = sorted([*titles, *places])
    code = _Stretches(fences(text) if loaded.kind == "markdown" else [])
    headings = _Stretches([(title.start, title.end) for title in outline.titles])
    cuts = {edge for stretch in (*code.spans, *headings.spans) for edge in stretch}
    cuts |= {start for start, strength in places if strength == Break.PLACE}
    units: list[Unit] = []
    for start, end in _cut_at(text, sentences(text), sorted(cuts)):
        before = units[-1].end if units else 0
        first = bisect_left(begun, (before, 0))
        last = bisect_right(begun, (start, Break.ALWAYS))
        strength = max(
            [_gap(text[before:start], code.inside(start))]
            + [strength for _, strength in begun[first:last]]
        )
        if units and _leads_on(text, units[-1], headings):
            strength = Break.NEVER
        elif units and text[before - 1] in ":：":
            strength = min(strength, Break.SENTENCE)
        units.append(Unit(start, end, strength))
    return units


class _Stretches:
    """Spans of a text in order, and which of them holds a place."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self.spans = spans
        self._begins = [begin for begin, _ in spans]

    def holding(self, at: int) -> int | None:
        """The number of the span that ``at`` is in."""
        number = bisect_right(self._begins, at) - 1
        return number if number >= 0 and at < self.spans[number][1] else None

    def inside(self, at: int) -> bool:
        """Whether ``at`` is in a span and not where it begins."""
        number = self.holding(at)
        return number is not None and at > self._begins[number]


def _of_place(loaded: Loaded, label: str) -> int:
    return Break.PLACE if loaded.kind == "rows" or label.startswith(SEPARATE) else Break.PARAGRAPH


def _gap(between: str, fenced: bool) -> int:
    """The break that blank space makes; fenced code is held together."""
    lines = between.count("\n") or between.count("\r")
    if fenced:
        return Break.SENTENCE if lines > 1 else Break.CLAUSE
    return Break.PARAGRAPH if lines > 1 else Break.LINE if lines else Break.SENTENCE


def _leads_on(text: str, unit: Unit, headings: _Stretches) -> bool:
    """Whether a unit belongs to what follows: a heading, the head of a table."""
    if headings.holding(unit.end - 1) is not None:
        return True
    line = text[unit.start : unit.end]
    return line.startswith("|") and not line.strip("|:- \t")


def _cut_at(
    text: str, spans: Sequence[tuple[int, int]], cuts: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """``spans`` cut at ``cuts`` and trimmed."""
    for start, end in spans:
        inside = cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]
        for one, other in pairwise([start, *inside, end]):
            piece = trimmed(text, one, other)
            if piece[0] < piece[1]:
                yield piece
