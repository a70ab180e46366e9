"""Partial sorts: the largest of many values without sorting them all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 4096
"""Up to this many values are partitioned at once."""

Values = NDArray[np.floating[Any]]
Positions = NDArray[np.int64]


def largest(values: Values, count: int) -> Positions:
    """Positions, ascending, of the ``count`` largest values and of what ties with the last."""
    if count >= len(values):
        return np.arange(len(values))
    if len(values) <= SMALL or count * 8 > len(values):
        return np.flatnonzero(values >= _at_rank(values, count))
    few = np.flatnonzero(values >= _low_bar(values, count))
    chosen = values[few]
    found: Positions = few[chosen >= _at_rank(chosen, count)]
    return found


def _at_rank(values: Values, count: int) -> Any:
    """The value at rank ``count``, counted from the largest as 1."""
    return np.partition(values, len(values) - count)[len(values) - count]


def _low_bar(values: Values, count: int) -> Any:
    """A value that at least ``count`` reach, and few more: a rank among maxima of columns.

    Each of the ``count`` columns with the largest maxima has one value at least that reaches
    the last of these maxima.
    """
    columns = max(1024, 4 * count)
    rows = len(values) // columns
    maxima = values[: rows * columns].reshape(rows, columns).max(axis=0)
    return _at_rank(maxima, count)


def descending(values: Values, count: int) -> Positions:
    """Positions of the ``count`` largest values, largest first; among equals the first first."""
    few = largest(values, count)
    return few[_falling(values[few])][:count]


def _falling(values: Values) -> Positions:
    """Positions from the largest value to the smallest; among equals the first first.

    Many float32 are sorted as integers, value above position, several times faster than by a
    stable sort: the bits of a float, with all but the sign inverted when it is negative, are
    ordered as the floats are.
    """
    if len(values) < SMALL or values.dtype != np.float32:
        return np.argsort(-values, kind="stable")
    bits = (0 - values).view(np.int32)  # unlike -values, never a negative zero
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    keys = (ordered << 32) | np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF


def reaching(order: Values, weights: Values, mass: float) -> Positions:
    """Positions, ascending: the fewest of largest ``order`` whose ``weights`` sum to ``mass``.

    order (n,), weights (n,); at least one.  Looks at 64 first, at eight times as many until
    these suffice.
    """
    count = 64
    while True:
        first = descending(order, count)
        before = np.cumsum(weights[first], dtype=np.float64) - weights[first]
        enough = int(np.searchsorted(before, mass))  # the first that is not needed
        if enough < len(first) or len(first) == len(order):
            return np.sort(first[: max(enough, 1)])
        count *= 8
