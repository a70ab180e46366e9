"""Labels of several annotators in, how far they agree beyond chance out.  Pure.

None is a label that is missing.  1 is full agreement, 0 is what chance gives, below 0 is less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import permutations

Label = Hashable | None
Distance = Callable[[Hashable, Hashable], float]


def nominal(first: Hashable, second: Hashable) -> float:
    """Labels without an order: 0 when equal, else 1."""
    return float(first != second)


def interval(first: Hashable, second: Hashable) -> float:
    """Numbers: the square of their difference."""
    assert isinstance(first, int | float)
    assert isinstance(second, int | float)
    return float(first - second) ** 2


def cohen_kappa(first: Sequence[Label], second: Sequence[Label]) -> float:
    """Of two annotators on the same items: (p_o - p_e) / (1 - p_e) (Cohen 1960).

    p_o is the share of items labelled alike, p_e what their own shares of labels would give by
    chance.  Items that either left out do not count.  Raises ValueError when none is left; both
    giving one and the same label throughout is agreement 1.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        raise ValueError("no item has labels of both annotators")
    observed = sum(a == b for a, b in pairs) / len(pairs)
    mine, yours = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(mine[label] * yours[label] for label in mine) / len(pairs) ** 2
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(items: Sequence[Sequence[Label]], distance: Distance = nominal) -> float:
    """Of any number of annotators, some of whose labels are missing: 1 - D_o / D_e.

    ``items``: the labels that each item got, in any order.  D_o is the mean distance of labels of
    one item, D_e that of all labels (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", by the coincidence matrix).  Items with fewer than two labels do not
    count; raises ValueError when none is left.  Where all labels are equal it is 1.
    """
    rated = [[label for label in item if label is not None] for item in items]
    rated = [item for item in rated if len(item) > 1]
    if not rated:
        raise ValueError("no item has two labels")
    coincidences: Counter[tuple[Hashable, Hashable]] = Counter()
    for item in rated:
        for pair in permutations(item, 2):
            coincidences[pair] += 1 / (len(item) - 1)  # type: ignore[assignment]
    totals: Counter[Hashable] = Counter()
    for (label, _), count in coincidences.items():
        totals[label] += count
    everything = sum(totals.values())
    observed = sum(n * distance(a, b) for (a, b), n in coincidences.items())
    expected = sum(totals[a] * totals[b] * distance(a, b) for a in totals for b in totals) / (
        everything - 1
    )
    return 1.0 if expected == 0 else 1 - observed / expected
