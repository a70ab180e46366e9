"""A loaded document in, its chunks out: spans that are sliced, never searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fledge.core.errors import InputError
from fledge.index.chunk import Chunk
from fledge.index.loaded import Loaded
from fledge.index.split.code import code_outline, code_units
from fledge.index.split.config import SplitConfig
from fledge.index.split.measure import Ruler, Starts, cheap_starts, trimmed
from fledge.index.split.outline import Outline
from fledge.index.split.packing import Run, fitting, pack
from fledge.index.split.prose import prose_outline, prose_units
from fledge.index.split.semantic import Embeds, by_sense
from fledge.index.split.unit import Break, Unit

VERSION = 1
"""Of the rules: another version may cut otherwise."""


def split(
    loaded: Loaded,
    config: SplitConfig | None = None,
    *,
    embedder: Embeds | None = None,
    starts: Starts = cheap_starts,
) -> tuple[Chunk, ...]:
    """Chunks of ``loaded`` in the text's order; a larger one stands before those inside it.

    On each level they hold all of the text that is not blank, none is blank, and none is longer
    than ``config`` allows, as ``starts`` counts tokens.  Raises InputError when the strategy is
    semantic and there is no ``embedder``.
    """
    config = config or SplitConfig()
    text = loaded.document.text
    ruler = Ruler(text, starts)
    code = config.strategy == "code" or loaded.kind.startswith("code")
    outline = code_outline(text) if code else prose_outline(loaded)
    if config.strategy == "tokens":
        return tuple(_chunk(outline, *span) for span in _equal(ruler, config.size, config.overlap))
    units = code_units(text) if code else prose_units(loaded, outline)
    if config.strategy == "hierarchical":
        units = fitting(units, ruler, config.sizes[-1])
        return tuple(_levels(units, ruler, outline, config))
    units = fitting(_prepared(units, text, config, embedder), ruler, config.size)
    least = config.size // 4 if config.strategy == "semantic" else 0
    runs = pack(units, ruler, config.size, config.overlap, least)
    return tuple(_chunk(outline, *_span(units, run)) for run in runs)


def _prepared(
    units: list[Unit], text: str, config: SplitConfig, embedder: Embeds | None
) -> list[Unit]:
    """Units with the breaks of the strategy."""
    if config.strategy == "heading":
        return [
            replace(unit, strength=Break.ALWAYS) if unit.strength >= Break.HEADING else unit
            for unit in units
        ]
    if config.strategy == "sentence":  # no sentence is better than another to end with
        return [replace(unit, strength=min(unit.strength, Break.SENTENCE)) for unit in units]
    if config.strategy == "semantic":
        if embedder is None:
            raise InputError(
                'split strategy = "semantic" needs an embedder, which tells where sense changes',
                remedy='name one with --embedder, or choose strategy = "recursive"',
            )
        return by_sense(units, text, embedder, config.threshold)
    return units


def _span(units: Sequence[Unit], run: Run) -> tuple[int, int]:
    return units[run[0]].start, units[run[1] - 1].end


def _chunk(
    outline: Outline, start: int, end: int, level: int = 0, parent: int | None = None
) -> Chunk:
    heading = outline.heading(start, end)
    return Chunk(start=start, end=end, level=level, parent=parent, heading=heading)


def _equal(ruler: Ruler, size: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of ``size`` tokens, wherever they end."""
    spans: list[tuple[int, int]] = []
    at, last = trimmed(ruler.text, 0, len(ruler.text))
    end = at
    while end < last:
        further = ruler.cut(at, last, size)
        if further <= end:  # the overlap left no room for more
            at, _ = trimmed(ruler.text, end, last)
            further = ruler.cut(at, last, size)
        spans.append(trimmed(ruler.text, at, further))
        end = further
        at, _ = trimmed(ruler.text, max(at + 1, ruler.back(end, overlap)), last)
    return spans


def _levels(
    units: Sequence[Unit], ruler: Ruler, outline: Outline, config: SplitConfig
) -> list[Chunk]:
    """Chunks of all sizes, each before those inside it."""
    found: list[Chunk] = []

    def fill(first: int, last: int, rank: int, parent: int | None) -> None:
        inner = units[first:last]
        level = len(config.sizes) - 1 - rank
        overlap = 0 if level else min(config.overlap, config.sizes[-1] // 2)
        for begin, end in pack(inner, ruler, config.sizes[rank], overlap):
            found.append(_chunk(outline, *_span(inner, (begin, end)), level, parent))
            if level:
                fill(first + begin, first + end, rank + 1, len(found) - 1)

    fill(0, len(units), 0, None)
    return found
