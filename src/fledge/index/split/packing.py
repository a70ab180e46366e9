"""Units in, runs of them that are no longer than allowed out, ended at the strongest breaks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from fledge.index.split.measure import Ruler, trimmed
from fledge.index.split.unit import Break, Unit

Run = tuple[int, int]
"""Units [first, last) that make a chunk."""

EARLY, USUAL = 0.25, 0.5
"""Shares of the size from which on a run may end: at a heading, at a lesser break."""

_CLAUSE = re.compile("[，、；：,;:—–](?=\\s|[^\x00-\x7f])|[，；：]|(?<=\\s)[-–—](?=\\s)")


def fitting(units: Sequence[Unit], ruler: Ruler, size: int) -> list[Unit]:
    """Units with those over ``size`` tokens cut: at clauses, else between words."""
    found: list[Unit] = []
    for unit in units:
        if ruler.count(unit.start, unit.end) <= size:
            found.append(unit)
            continue
        strength = unit.strength
        for piece in _pieces(unit, ruler, size):
            found.append(Unit(*piece, strength))
            strength = Break.CLAUSE if ruler.text[piece[1] - 1] in "，、；：,;:—–-" else Break.PIECE
    return found


def _pieces(unit: Unit, ruler: Ruler, size: int) -> Iterator[tuple[int, int]]:
    """Clauses of a unit; those that are too long cut between words."""
    start = unit.start
    ends = [match.end() for match in _CLAUSE.finditer(ruler.text, unit.start, unit.end)]
    for end in [*ends, unit.end]:
        at, last = trimmed(ruler.text, start, end)
        while at < last:
            cut = ruler.cut(at, last, size)
            piece = trimmed(ruler.text, at, cut)
            if piece[0] < piece[1]:
                yield piece
            at, last = trimmed(ruler.text, cut, last)
        start = end


def pack(
    units: Sequence[Unit], ruler: Ruler, size: int, overlap: int = 0, least: int = 0
) -> list[Run]:
    """Runs of ``units`` of at most ``size`` tokens each, which fit by themselves.

    A run ends at the strongest break from its half on (at a heading, from its quarter on), the
    latest of equals.  Each begins up to ``overlap`` tokens inside the one before.  ``least``:
    tokens below which a run does not end even where it must (``Break.ALWAYS``), if more fits.
    """
    ends = [unit.end for unit in units]
    runs: list[Run] = []
    first = taken = 0  # units before ``taken`` are in a run already
    while taken < len(units):
        start = units[first].start
        room = max(taken + 1, bisect_right(ends, ruler.reach(start, size)))
        room = _until_barrier(units, ruler, first, taken, room, least)
        last = room if room == len(units) else _best(units, ruler, (first, taken, room), size)
        runs.append((first, last))
        first, taken = _overlapping(units, ruler, (first, last), size, overlap), last
    return runs


def _until_barrier(
    units: Sequence[Unit], ruler: Ruler, first: int, taken: int, room: int, least: int
) -> int:
    for number in range(taken + 1, room):
        enough = ruler.count(units[first].start, units[number - 1].end) >= least
        if enough and units[number].strength >= Break.ALWAYS:
            return number
    return room


def _best(units: Sequence[Unit], ruler: Ruler, bounds: tuple[int, int, int], size: int) -> int:
    """Where to end a run that begins at ``first``, holds ``taken`` and has room until ``room``."""
    first, taken, room = bounds
    best = room
    for number in range(room, taken, -1):
        strength = units[number].strength
        filled = ruler.count(units[first].start, units[number - 1].end) / size
        if filled < EARLY and units[best].strength > Break.NEVER:
            break
        enough = filled >= (EARLY if strength >= Break.HEADING else USUAL)
        if strength > units[best].strength and (enough or units[best].strength <= Break.NEVER):
            best = number
    return best


def _overlapping(units: Sequence[Unit], ruler: Ruler, run: Run, size: int, overlap: int) -> int:
    """The unit at which the run after ``run`` begins."""
    first, last = run
    if not overlap or last == len(units) or units[last].strength >= Break.ALWAYS:
        return last
    begin = last
    while (
        begin - 1 > first
        and ruler.count(units[begin - 1].start, units[last - 1].end) <= overlap
        and ruler.count(units[begin - 1].start, units[last].end) <= size
    ):
        begin -= 1
    return begin
