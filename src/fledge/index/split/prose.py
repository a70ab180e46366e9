"""Prose and Markdown in, sentences with the breaks between them out."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from fledge.index.loaded import Loaded
from fledge.index.sentences import sentences
from fledge.index.split.code import code_units
from fledge.index.split.measure import trimmed
from fledge.index.split.outline import Outline, fences, markdown_titles, plain_titles
from fledge.index.split.unit import Break, Unit

_ARTICLE = re.compile(
    r"第[ 　]?[一二三四五六七八九十百千零〇\d]{1,7}[ 　]?[条條]|Article [\dIVXLC]+\b|§ ?\d"
)
"""What begins an article of a law, which several paragraphs may belong to."""
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
    within: int | None = None  # number of the fenced code that is done
    for start, end in _cut_at(text, sentences(text), sorted(cuts)):
        fence = code.holding(start)
        if fence is not None and fence == within:
            continue
        within = fence
        before = units[-1].end if units else 0
        first = bisect_left(begun, (before, 0))
        last = bisect_right(begun, (start, Break.ALWAYS))
        strength = max(
            _gap(text[before:start]),
            Break.PLACE if _ARTICLE.match(text, start) else Break.NEVER,
            *(strength for _, strength in begun[first:last]),
        )
        if units and _leads_on(text, units[-1], headings):
            strength = Break.NEVER
        elif units and text[before - 1] in ":：":
            strength = min(strength, Break.SENTENCE)
        if fence is None:
            units.append(Unit(start, end, strength))
        else:
            units += _fenced(text, code.spans[fence], strength)
    return units


def _fenced(text: str, span: tuple[int, int], strength: int) -> Iterator[Unit]:
    """Lines of fenced code, which is rather held together than cut; ``strength`` before it."""
    lines = code_units(text, *span)
    for number, line in enumerate(lines):
        if number:
            fence = number == 1 or text.startswith(("```", "~~~"), line.start)
            kept = fence or line.strength == Break.NEVER
            apart = Break.SENTENCE if line.strength >= Break.HEADING else Break.CLAUSE
            strength = Break.NEVER if kept else apart
        yield Unit(line.start, line.end, strength)


class _Stretches:
    """Spans of a text in order, and which of them holds a place."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self.spans = spans
        self._begins = [begin for begin, _ in spans]

    def holding(self, at: int) -> int | None:
        """The number of the span that ``at`` is in."""
        number = bisect_right(self._begins, at) - 1
        return number if number >= 0 and at < self.spans[number][1] else None


def _of_place(loaded: Loaded, label: str) -> int:
    return Break.PLACE if loaded.kind == "rows" or label.startswith(SEPARATE) else Break.PARAGRAPH


def _gap(between: str) -> int:
    """The break that blank space makes."""
    lines = between.count("\n") or between.count("\r")
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
