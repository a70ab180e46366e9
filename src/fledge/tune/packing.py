"""Lengths in, rows out: conversations share rows so that little is padding.  Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of items whose lengths sum to ``capacity`` at most: best fit, longest first.

    ``order`` settles who comes first among items of equal length.  How many rows there are, and
    how full, depends on the lengths alone.  Raises ValueError for an item longer than a row.
    """
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room, row), sorted
    for item in sorted(order, key=lambda item: -lengths[item]):
        length = lengths[item]
        if length > capacity:
            raise ValueError(f"item {item} has length {length}, a row holds {capacity}")
        place = bisect_left(open_rows, (length, -1))
        if place == len(open_rows):
            room, row = capacity, len(rows)
            rows.append([])
        else:
            room, row = open_rows.pop(place)
        rows[row].append(item)
        if room > length:
            insort(open_rows, (room - length, row))
    return rows
