"""A sentence that a model wrote and a passage in, the words of the passage that bear it out.

Containment only: the sentence's numbers, quotations and most of its words must stand together in
the passage.  That finds what is not from the passage; it cannot find a sentence that uses the
passage's own words to say something else.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from fledge.index.terms import terms
from fledge.metrics.answers import normalise, numbers
from fledge.rag.parts import Part, parts

CONTAINED = 0.7
"""Share of a sentence's terms that the passage must hold."""
TOGETHER = 0.6
"""Share of its terms beyond the question that must stand within ``REACH`` sentences."""
REACH = 3
_QUOTED = re.compile(
    r"“([^“”]{2,})”|「([^「」]{2,})」|『([^『』]{2,})』|\"([^\"]{2,})\"|《([^《》]+)》"
)


@dataclass(frozen=True)
class Borne:
    """``passage[start:end]`` bears a sentence out; ``share`` of its terms stand there."""

    start: int
    end: int
    share: float


def bears_out(sentence: str, passage: str, question: str = "") -> Borne | None:
    """The shortest run of whole sentences of ``passage`` that bears ``sentence`` out, or None.

    Terms of the question need only be somewhere in the passage: "it" may stand for them.
    """
    wanted = set(terms(sentence))
    split = parts(passage)
    everywhere = {term for part in split for term in part.terms}
    if not wanted or len(wanted & everywhere) < CONTAINED * len(wanted):
        return None
    new = wanted - set(terms(question)) or wanted
    figures = numbers(normalise(sentence)) - numbers(normalise(question))
    quotes = [next(filter(None, match.groups())) for match in _QUOTED.finditer(sentence)]
    quotes = [quote for quote in quotes if quote not in question]
    for size in range(1, REACH + 1):
        best = _best(split, size, new, wanted)
        for share, first, last in best:
            start, end = split[first].start, split[last].end
            if share < TOGETHER:
                break
            text = passage[start:end]
            if figures <= numbers(normalise(text)) and all(quote in text for quote in quotes):
                return Borne(start, end, share)
    return None


def _best(
    split: tuple[Part, ...], size: int, new: Set[str], wanted: Set[str]
) -> list[tuple[float, int, int]]:
    """Runs of ``size`` sentences by their share of ``new``, and of ``wanted`` where that ties."""
    runs = []
    for first in range(len(split) - size + 1):
        held = {term for part in split[first : first + size] for term in part.terms}
        share = len(new & held) / len(new)
        runs.append((-share, -len(wanted & held), first))
    return [(-share, first, first + size - 1) for share, _, first in sorted(runs)]
