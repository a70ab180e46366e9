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
from fledge.rag.telling import telling

CONTAINED = 0.7
"""Share of a sentence's terms that the passage must hold."""
TOGETHER = 0.6
"""Share of its terms beyond the question that must stand within ``REACH`` sentences."""
REACH = 3
_QUOTED = re.compile(
    r"“([^“”]{2,})”|「([^「」]{2,})」|『([^『』]{2,})』|\"([^\"]{2,})\"|《([^《》]+)》"
)


_NEGATION = re.compile(
    r"\b(?:not|never|no|none|neither|nor|cannot|without)\b|n['’]t\b|[不没沒未非無无](?![仅僅过過论論])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Borne:
    """``passage[start:end]`` bears a sentence out; ``share`` of its terms stand there."""

    start: int
    end: int
    share: float


def bears_out(sentence: str, passage: str, question: str = "") -> Borne | None:
    """The whole sentences of ``passage`` that hold most of ``sentence``, the fewest; or None.

    Terms of the question need only be somewhere in the passage: "it" may stand for them.
    """
    wanted = set(telling(sentence))
    split = parts(passage)
    everywhere = {term for part in split for term in part.terms}
    if not wanted or len(wanted & everywhere) < CONTAINED * len(wanted):
        return None
    new = wanted - set(terms(question)) or wanted
    figures = numbers(normalise(sentence)) - numbers(normalise(question))
    quotes = [next(filter(None, match.groups())) for match in _QUOTED.finditer(sentence)]
    quotes = [quote for quote in quotes if quote not in question]
    for share, first, last in _runs(split, new, wanted):
        if share < TOGETHER:
            return None
        start, end = split[first].start, split[last].end
        text = passage[start:end]
        holds = figures <= numbers(normalise(text)) and all(quote in text for quote in quotes)
        if holds and _agree(sentence, text, single=first == last):
            return Borne(start, end, share)
    return None


def _agree(sentence: str, text: str, *, single: bool) -> bool:
    """Whether both deny or both affirm, as far as words of negation tell."""
    denies, held = bool(_NEGATION.search(sentence)), bool(_NEGATION.search(text))
    return denies == held if single else held or not denies


def _runs(split: tuple[Part, ...], new: Set[str], wanted: Set[str]) -> list[tuple[float, int, int]]:
    """Runs of up to ``REACH`` sentences with their share of ``new``: those with most of it first,
    then the shortest, then those with most of ``wanted``."""
    runs = []
    for size in range(1, REACH + 1):
        for first in range(len(split) - size + 1):
            held = {term for part in split[first : first + size] for term in part.terms}
            runs.append((-len(new & held), size, -len(wanted & held), first))
    return [(-n / len(new), first, first + size - 1) for n, size, _, first in sorted(runs)]
