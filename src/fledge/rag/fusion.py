"""Ranked lists in, one ranking out: weighted reciprocal ranks, or weighted scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fledge.index.store.protocol import Hit


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What one search gave, best first, and how much it counts."""

    name: str
    hits: Sequence[Hit]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A chunk on its way to become a passage; ``scores`` are those of the steps behind it."""

    chunk: int
    score: float
    scores: Mapping[str, float]

    @property
    def hit(self) -> Hit:
        """The chunk and its score alone."""
        return Hit(chunk=self.chunk, score=self.score)

    def after(self, step: str, score: float) -> Candidate:
        """The candidate with the score that ``step`` gave it."""
        return Candidate(chunk=self.chunk, score=score, scores={**self.scores, step: score})


def reciprocal_ranks(lists: Sequence[Ranked], constant: float) -> list[Candidate]:
    """Sum over lists of weight / (constant + rank), rank from 1 (Cormack et al. 2009).

    Divided by what a chunk first in all lists would get, so that scores of queries compare.
    """
    total = sum(one.weight for one in lists) / (constant + 1) or 1.0
    sums: dict[int, float] = {}
    for one in lists:
        for rank, hit in enumerate(one.hits, 1):
            gain = one.weight / (constant + rank) / total
            sums[hit.chunk] = sums.get(hit.chunk, 0.0) + gain
    return _ordered(sums, lists)


def weighted_scores(lists: Sequence[Ranked]) -> list[Candidate]:
    """Sum over lists of weight x score, each list stretched to [0, 1] (arXiv:2210.11934, eq. 4).

    A list's largest score becomes 1; BM25's 0 stays 0, and a cosine's floor is the smallest one
    found.  What a list did not find gets its 0.
    """
    total = sum(one.weight for one in lists) or 1.0
    sums: dict[int, float] = {}
    for one in lists:
        if not one.hits:
            continue
        top = max(hit.score for hit in one.hits)
        low = 0.0 if one.name == "lexical" else min(hit.score for hit in one.hits)
        for hit in one.hits:
            share = (hit.score - low) / (top - low) if top > low else 1.0
            sums[hit.chunk] = sums.get(hit.chunk, 0.0) + one.weight * share / total
    return _ordered(sums, lists)


def pooled(groups: Sequence[Sequence[Candidate]], weights: Sequence[float]) -> list[Candidate]:
    """The best score of each chunk over several questions (multi-query)."""
    best: dict[int, Candidate] = {}
    for group, weight in zip(groups, weights, strict=True):
        for one in group:
            score = one.score * weight
            held = best.get(one.chunk)
            merged = {**one.scores, **(held.scores if held else {})}
            top = score if held is None else max(score, held.score)
            best[one.chunk] = Candidate(chunk=one.chunk, score=top, scores=merged)
    return sorted(best.values(), key=_place)


def added(groups: Sequence[Sequence[Candidate]], weights: Sequence[float]) -> list[Candidate]:
    """The weighted mean of each chunk's scores over several questions; 0 where it was not found."""
    total = sum(weights) or 1.0
    sums: dict[int, float] = {}
    scores: dict[int, dict[str, float]] = {}
    for group, weight in zip(groups, weights, strict=True):
        for one in group:
            sums[one.chunk] = sums.get(one.chunk, 0.0) + one.score * weight / total
            scores[one.chunk] = {**one.scores, **scores.get(one.chunk, {})}
    found = [Candidate(chunk=n, score=score, scores=scores[n]) for n, score in sums.items()]
    return sorted(found, key=_place)


def _ordered(sums: Mapping[int, float], lists: Sequence[Ranked]) -> list[Candidate]:
    """Best first; equal ones in the order of their numbers, so that a search repeats."""
    own: dict[int, dict[str, float]] = {chunk: {} for chunk in sums}
    for one in lists:
        for hit in one.hits:
            if hit.chunk in own:
                scores = own[hit.chunk]
                scores[one.name] = max(hit.score, scores.get(one.name, hit.score))
    found = [
        Candidate(chunk=chunk, score=score, scores={**own[chunk], "fused": score})
        for chunk, score in sums.items()
    ]
    return sorted(found, key=_place)


def _place(candidate: Candidate) -> tuple[float, int]:
    return -candidate.score, candidate.chunk
