"""A question and passages in, the sentences that answer it out: no model, nothing reworded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fledge.index.terms import terms
from fledge.rag.cues import Kind, kind_of, new_values
from fledge.rag.parts import parts
from fledge.rag.passage import Passage
from fledge.rag.rarity import coverage

AROUND, ORDER, RANK, LEANS = 0.35, 0.4, 0.2, 0.7
"""What the sentences beside it (more for one that begins with a pronoun), the order of terms and
the passage's place add to a sentence's share of the question.  Chosen on validation questions."""
CUE: dict[Kind, float] = {"date": 0.3, "number": 0.3, "person": 0.1, "place": 0.1, "reason": 0.1}
"""What a value of the kind that is asked for adds."""
_PRONOUN = re.compile(
    r"(?:It|Its|He|She|His|Her|They|Their|This|These|That|Those|The (?:former|latter))\b"
    r"|[它他她其该該此这這]"
)
LONGEST = 600
"""Characters of a sentence that is shown; a longer one is a table or a list without full stops."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """``passage.text[start:end]``, with what in it answers (offsets in the passage's text)."""

    passage: Passage
    start: int
    end: int
    score: float
    highlights: tuple[tuple[int, int], ...] = ()

    @property
    def text(self) -> str:
        """The sentence itself."""
        return self.passage.text[self.start : self.end]


def answering(
    question: str, rarity: Mapping[str, float], passages: Sequence[Passage], most: int = 2
) -> list[Sentence]:
    """Up to ``most`` sentences, best first; further ones only when they are nearly as good."""
    scored = sorted(_scored(question, rarity, passages), key=lambda one: -one.score)
    kept: list[Sentence] = []
    for one in scored:
        if len(kept) == most or (kept and one.score < NEARLY * kept[0].score):
            break
        if all(set(terms(one.text)) - set(terms(other.text)) for other in kept):
            kept.append(one)
    bare = [replace(one, start=one.start + _markup(one.text)) for one in kept]
    return [replace(one, highlights=_highlights(question, one)) for one in bare]


def _markup(text: str) -> int:
    """Letters of a quotation's or a list's mark before a sentence: they are no part of it."""
    mark = _MARK.match(text)
    return mark.end() if mark and mark.end() < len(text) else 0


_MARK = re.compile(r"(?:>[ \t]*)*(?:(?:[-*+•]|\d{1,2}[.)])[ \t]+|\d{1,2}、)?")


NEARLY = 0.85
"""Of the best sentence's score, for a second one to be shown."""


def _scored(
    question: str, rarity: Mapping[str, float], passages: Sequence[Passage]
) -> list[Sentence]:
    """Every sentence of the passages with its score."""
    kind = kind_of(question)
    asked = set(pairwise(terms(question)))
    found = []
    for rank, passage in enumerate(passages):
        split = parts(passage.text)
        heading = set(terms(passage.heading))
        for i, part in enumerate(split):
            beside = {t for one in split[max(0, i - 2) : i + 2] for t in one.terms} | heading
            own = coverage(rarity, part.terms)
            around = coverage(rarity, beside | set(part.terms)) - own
            order = len(asked & set(pairwise(part.terms))) / len(asked) if asked else 0.0
            text = passage.text[part.start : part.end]
            new = set(part.terms) - set(rarity)
            cue = CUE.get(kind, 0.0) if new_values(kind, question, text) else 0.0
            weight = LEANS if _PRONOUN.match(text) else AROUND
            score = own + weight * around + ORDER * order + cue + RANK / (1 + rank)
            if text.endswith(("?", "？")) or text.startswith("#") or not new:
                score *= 0.5  # a question, a heading, the question's own words answer nothing
            if len(text) <= LONGEST:
                found.append(Sentence(passage=passage, start=part.start, end=part.end, score=score))
    return found


def _highlights(question: str, sentence: Sentence) -> tuple[tuple[int, int], ...]:
    """Values of the kind that is asked for; none when there is no such kind or too many."""
    spans = new_values(kind_of(question), question, sentence.text)
    if not spans or len(spans) > 4:
        return ()
    return tuple((sentence.start + start, sentence.start + end) for start, end in spans)
