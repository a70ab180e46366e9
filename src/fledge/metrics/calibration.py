"""Stated probabilities and what came true in; how far they can be believed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Bin(NamedTuple):
    """Statements of about the same probability."""

    low: float
    high: float
    size: int
    """How many."""
    stated: float
    """Their mean probability."""
    found: float
    """The share that came true."""


def brier(stated: Sequence[float], true: Sequence[bool]) -> float:
    """Mean (probability - outcome)^2: 0 is perfect, 0.25 is always saying a half (Brier 1950)."""
    if not stated:
        raise ValueError("a score needs at least one statement")
    return sum((p - t) ** 2 for p, t in zip(stated, true, strict=True)) / len(stated)


def reliability(stated: Sequence[float], true: Sequence[bool], *, bins: int = 10) -> list[Bin]:
    """The calibration curve: equal bins over [0, 1], those that hold anything."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, outcome in zip(stated, true, strict=True):
        if not 0 <= probability <= 1:
            raise ValueError(f"{probability} is no probability")
        members[min(int(probability * bins), bins - 1)].append((probability, outcome))
    return [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            size=len(inside),
            stated=sum(p for p, _ in inside) / len(inside),
            found=sum(t for _, t in inside) / len(inside),
        )
        for number, inside in enumerate(members)
        if inside
    ]


def calibration_error(curve: Sequence[Bin]) -> float:
    """Expected calibration error: mean |stated - found|, by size (arXiv:1706.04599, eq. 5)."""
    total = sum(one.size for one in curve)
    if not total:
        raise ValueError("a score needs at least one statement")
    return sum(one.size * abs(one.stated - one.found) for one in curve) / total
