"""Lengths of documents in, rows of pieces out: best fit, few cuts, hardly any padding.  Pure.

Best-fit packing (arXiv:2404.10830, 3): only documents longer than a row are cut, the pieces are
put into rows largest first, each where least room is left.  Lengths are small integers, so pieces
of one length and rows with one room are placed together, which makes a million pieces a matter of
a second.  Where documents leave much room (all of 0.6 rows, say), the emptiest rows are taken
apart again and their pieces cut to fill the others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

SMALLEST_GAP = 16
"""Tokens (at most 1/32 of a row) below which room stays padding: too little to cut for."""


@dataclass(frozen=True)
class Packing:
    """Pieces of documents in rows; pieces of row r are those in [begins[r], begins[r + 1])."""

    documents: Numbers
    """Which document a piece is of, as a place in the lengths given."""
    starts: Numbers
    """Where in its document a piece begins, in tokens."""
    lengths: Numbers
    """Tokens of each piece."""
    begins: Numbers
    """First piece of each row, and the number of pieces."""

    @property
    def rows(self) -> int:
        return len(self.begins) - 1


def pack(lengths: Numbers, capacity: int, generator: np.random.Generator) -> Packing:
    """Documents of these lengths in rows of ``capacity``, each token once, in random company.

    How many rows there are depends on the lengths alone; which pieces of equal length share a
    row, and the order of the rows, on the generator.
    """
    documents, starts, sizes = _cut(lengths, capacity)
    order = generator.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # longest first, chance among equals
    documents, starts, sizes = documents[order], starts[order], sizes[order]
    rows = best_fit(sizes, capacity)
    documents, starts, sizes, rows = _fill_gaps(documents, starts, sizes, rows, capacity)
    count = int(rows.max()) + 1 if len(rows) else 0
    rows = generator.permutation(count)[rows]
    order = np.argsort(rows, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    return Packing(documents[order], starts[order], sizes[order], begins.astype(np.int64))


def _cut(lengths: Numbers, capacity: int) -> tuple[Numbers, Numbers, Numbers]:
    """(document, start, length) of the pieces of at most ``capacity`` tokens."""
    pieces = -(-lengths // capacity)
    documents = np.repeat(np.arange(len(lengths)), pieces)
    first = np.cumsum(pieces) - pieces  # number of each document's first piece
    starts = (np.arange(len(documents)) - first[documents]) * capacity
    return documents, starts, np.minimum(lengths[documents] - starts, capacity)


def best_fit(sizes: Numbers, capacity: int) -> Numbers:
    """The row of each piece; ``sizes`` fall, and none exceeds ``capacity``.

    All pieces of a size are placed at once: best fit puts them into the rows with least room that
    is enough, as many as go into each, and what remains into new rows.
    """
    rows = np.empty(len(sizes), dtype=np.int64)
    waiting: dict[int, list[Numbers]] = {}  # room -> rows that have it
    rooms: list[int] = []  # the keys, rising
    count = 0
    values, firsts = np.unique(-sizes, return_index=True)
    ends = np.append(firsts, len(sizes))[1:]
    for size, at, end in zip((-values).tolist(), firsts.tolist(), ends.tolist(), strict=True):
        while at < end:
            place = bisect_left(rooms, size)
            if place < len(rooms):
                room = rooms.pop(place)
                found = np.concatenate(waiting.pop(room))
            else:
                room, fresh = capacity, -(-(end - at) // (capacity // size))
                found = np.arange(count, count + fresh)
                count += fresh
            each = room // size
            taken = found[: -(-(end - at) // each)]
            filled = np.repeat(taken, each)[: end - at]
            rows[at : at + len(filled)] = filled
            at += len(filled)
            last = room - size * (len(filled) - each * (len(taken) - 1))
            for left, which in (
                (room - size * each, taken[:-1]),
                (last, taken[-1:]),
                (room, found[len(taken) :]),
            ):
                if left and len(which):
                    if left not in waiting:
                        insort(rooms, left)
                    waiting.setdefault(left, []).append(which)
    return rows


def _fill_gaps(
    documents: Numbers, starts: Numbers, sizes: Numbers, rows: Numbers, capacity: int
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Take the emptiest rows apart and cut their pieces to fill the large gaps of the others."""
    if not len(rows):
        return documents, starts, sizes, rows
    used = np.bincount(rows, weights=sizes).astype(np.int64)
    order = np.argsort(used, kind="stable")  # emptiest first
    least = max(2, min(SMALLEST_GAP, capacity // 32))
    gaps = np.where(capacity - used >= least, capacity - used, 0)
    held, room = np.cumsum(used[order]), gaps.sum() - np.cumsum(gaps[order])
    apart = int(np.searchsorted(held - room, 0, side="right"))  # rows whose tokens fit elsewhere
    if apart == 0:
        return documents, starts, sizes, rows
    loose = np.isin(rows, order[:apart])
    targets = order[apart:][gaps[order[apart:]] > 0]
    new = _lay(sizes[loose], gaps[targets])
    number = np.empty(len(order), dtype=np.int64)  # rows are numbered anew without those apart
    number[order[apart:]] = np.arange(len(order) - apart)
    which, offsets, lengths, gap = new
    parts = [
        (documents[~loose], documents[loose][which]),
        (starts[~loose], starts[loose][which] + offsets),
        (sizes[~loose], lengths),
        (number[rows[~loose]], number[targets][gap]),
    ]
    kept = [np.concatenate(part) for part in parts]
    return kept[0], kept[1], kept[2], kept[3]


def _lay(sizes: Numbers, gaps: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Pieces end to end over gaps end to end: (piece, offset in it, length, gap) of each part."""
    ends, bounds = np.cumsum(sizes), np.cumsum(gaps)
    cuts = np.union1d(ends, bounds[bounds < ends[-1]])
    begins = np.concatenate([[0], cuts[:-1]])
    which = np.searchsorted(ends, begins, side="right")
    offsets = begins - (ends - sizes)[which]
    return which, offsets, cuts - begins, np.searchsorted(bounds, begins, side="right")
