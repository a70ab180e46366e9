"""Terms in, how much each says out: the inverse document frequency BM25 uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fledge.index.store.protocol import Snapshot


def rarities(snapshot: Snapshot, terms: Iterable[str]) -> dict[str, float]:
    """ln(1 + (N - n + .5) / (n + .5)) of each term, in nats; N chunks, n of which hold it."""
    kinds = list(dict.fromkeys(terms))
    total = snapshot.sizes().chunks
    counts = snapshot.frequencies(kinds)
    return {
        term: math.log1p((max(total, n) - n + 0.5) / (n + 0.5))
        for term, n in zip(kinds, counts, strict=True)
    }


def coverage(rarity: Mapping[str, float], terms: Iterable[str]) -> float:
    """The share of what ``rarity`` weighs that is among ``terms``; 0 when it weighs nothing."""
    total = sum(rarity.values())
    held = set(terms)
    return sum(weight for term, weight in rarity.items() if term in held) / total if total else 0.0
