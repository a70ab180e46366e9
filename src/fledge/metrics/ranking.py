"""Ranked lists and what is relevant in, hit@k, reciprocal rank and nDCG with intervals out."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fledge.metrics.intervals import bootstrap, clustered


def hit_at(k: int, ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """1 when something relevant is among the first ``k`` of ``ranked``, otherwise 0."""
    return float(any(item in relevant for item in ranked[:k]))


def recall_at(k: int, ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """The share of ``relevant`` among the first ``k``; raises ValueError when there is none."""
    if not relevant:
        raise ValueError("recall needs something relevant")
    return len(set(ranked[:k]) & set(relevant)) / len(set(relevant))


def reciprocal_rank(
    ranked: Sequence[Hashable], relevant: Collection[Hashable], *, depth: int = 10
) -> float:
    """1 / place of the first relevant item, 0 when it is not among the first ``depth``."""
    places = (place for place, item in enumerate(ranked[:depth], 1) if item in relevant)
    return 1.0 / next(places, math.inf)


def ndcg_at(k: int, ranked: Sequence[Hashable], gains: Mapping[Any, float]) -> float:
    """Discounted gain of the first ``k`` over that of the best order (Jarvelin, Kekalainen 2002).

    ``gains`` of at least 0, taken as they are (linear); an item counts once, where it stands
    first.  0 when nothing has a gain.
    """
    if any(gain < 0 for gain in gains.values()):
        raise ValueError("a gain is below 0")
    best = _discounted(sorted(gains.values(), reverse=True)[:k])
    if best == 0:
        return 0.0
    first = list(dict.fromkeys(ranked[:k]))
    repeated = len(ranked[:k]) - len(first)
    return _discounted([gains.get(item, 0.0) for item in first] + [0.0] * repeated) / best


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What one question found.  ``cluster`` groups questions that succeed or fail together."""

    ranked: Sequence[Hashable]
    gains: Mapping[Any, float]
    cluster: Hashable = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean over ``n`` questions with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def ranking_figures(
    rankings: Sequence[Ranking], *, cuts: Sequence[int] = (1, 5, 10), seed: int = 0
) -> dict[str, Figure]:
    """Means of "hit@k" for every cut, "mrr@10" and "ndcg@10" over the questions.

    Intervals redraw questions, or whole clusters where the questions name one.  Raises ValueError
    without questions.
    """
    if not rankings:
        raise ValueError("ranking figures need at least one question")
    rows: dict[str, list[float]] = {
        f"hit@{k}": [hit_at(k, r.ranked, _relevant(r)) for r in rankings] for k in cuts
    }
    rows["mrr@10"] = [reciprocal_rank(r.ranked, _relevant(r)) for r in rankings]
    rows["ndcg@10"] = [ndcg_at(10, r.ranked, r.gains) for r in rankings]
    clusters = [r.cluster for r in rankings]
    return {name: figure(values, clusters, seed=seed) for name, values in rows.items()}


def figure(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Figure:
    """The mean of ``values`` in [0, 1]; those of one cluster (not None) are redrawn together."""
    if not values:
        raise ValueError("a figure needs at least one value")
    mean = sum(values) / len(values)
    named = clusters is not None and any(cluster is not None for cluster in clusters)
    if not named or clusters is None:
        low, high = bootstrap(values, seed=seed)
        return Figure(value=mean, low=low, high=high, n=len(values))
    grouped: dict[Hashable, list[float]] = {}
    for place, (value, cluster) in enumerate(zip(values, clusters, strict=True)):
        grouped.setdefault((place,) if cluster is None else (cluster, "named"), []).append(value)
    sums = [sum(group) for group in grouped.values()]
    low, high = clustered(sums, [len(group) for group in grouped.values()], seed=seed)
    return Figure(value=mean, low=low, high=high, n=len(values))


def _relevant(ranking: Ranking) -> set[Hashable]:
    return {item for item, gain in ranking.gains.items() if gain > 0}
