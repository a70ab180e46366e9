"""Candidates in, candidates in a better order out: second looks, age, diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise

from fledge.index.terms import terms
from fledge.rag.fusion import Candidate
from fledge.rag.language import has_han
from fledge.rag.parts import parts
from fledge.rag.rarity import coverage

SENTENCE, ORDER = 0.4, 0.5
"""What the best sentence's coverage and the question's pairs of terms add to a score in [0, 1].

Chosen on validation questions: larger values gain in English and lose in Chinese."""
WORDS = 6
"""Terms of a question that one sentence can be hoped to hold; of a longer one it counts less.

Chinese terms overlap, so there this does not apply."""


def term_scores(
    question: str,
    rarity: Mapping[str, float],
    candidates: Sequence[Candidate],
    texts: Sequence[str],
) -> list[float]:
    """Each candidate's score, plus how much of the question stands together in its text.

    Two measures: the share of the question, weighted by rarity, that one sentence holds, and the
    share of the question's pairs of neighbouring terms that are neighbours in the text.
    """
    asked = terms(question)
    pairs = set(pairwise(asked))
    sentence = SENTENCE * (1.0 if has_han(question) else min(1.0, WORDS / max(len(rarity), 1)))
    scores = []
    for one, text in zip(candidates, texts, strict=True):
        best = max((coverage(rarity, part.terms) for part in parts(text)), default=0.0)
        held = {pair for part in parts(text) for pair in pairwise(part.terms)}
        order = len(pairs & held) / len(pairs) if pairs else 0.0
        scores.append(one.score + sentence * best + ORDER * order)
    return scores


def reordered(
    candidates: Sequence[Candidate], scores: Sequence[float], step: str
) -> list[Candidate]:
    """The first ``len(scores)`` candidates by these scores, the rest after them.

    Scores of the rest are lowered so that all still fall from first to last.
    """
    seen = [one.after(step, s) for one, s in zip(candidates, scores, strict=False)]
    seen.sort(key=lambda one: (-one.score, one.chunk))
    rest = candidates[len(scores) :]
    if not rest or not seen:
        return [*seen, *rest]
    shift = min(0.0, seen[-1].score - rest[0].score)
    return [*seen, *(one.after(step, one.score + shift) for one in rest)]


def aged(
    candidates: Sequence[Candidate], dates: Sequence[str], half_life: float, today: date
) -> list[Candidate]:
    """Scores halved for every ``half_life`` days of age; a document without a date keeps half."""
    found = []
    for one, text in zip(candidates, dates, strict=True):
        days = _days(text, today)
        factor = 0.5 if days is None else 0.5 ** (max(days, 0) / half_life)
        found.append(one.after("age", max(one.score, 0.0) * factor))
    return sorted(found, key=lambda one: (-one.score, one.chunk))


def _days(text: str, today: date) -> int | None:
    """Days since an ISO 8601 date ("2024", "2024-05", "2024-05-17T10:00"); None for other text."""
    parts = text[:10].split("-")
    try:
        year, month, day = [int(part) for part in [*parts, "1", "1"][:3]]
        return (today - date(year, month, day)).days
    except ValueError:
        return None


def diverse(
    candidates: Sequence[Candidate], texts: Sequence[str], loss: float, k: int
) -> list[Candidate]:
    """The first ``k`` by (1 - loss) x score - loss x likeness to one taken before (MMR).

    Carbonell and Goldstein 1998; scores are divided by the largest, likeness is the share of
    terms that two texts have in common (Jaccard).
    """
    if not candidates:
        return []
    bags = [frozenset(terms(text)) for text in texts]
    top = max(max(one.score for one in candidates), 1e-9)
    left, taken = list(range(len(candidates))), list[int]()
    likeness = [0.0] * len(candidates)
    while left and len(taken) < k:
        values = {i: (1 - loss) * candidates[i].score / top - loss * likeness[i] for i in left}
        best = max(left, key=lambda i: (values[i], -i))
        left.remove(best)
        taken.append(best)
        for i in left:
            likeness[i] = max(likeness[i], _jaccard(bags[i], bags[best]))
    return [candidates[i] for i in taken]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0
