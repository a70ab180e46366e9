"""The inverted index: which chunks hold a term how often, in segments; BM25 over it.

A segment covers a run of at most 65,536 slots; its row for a term is an array of (slot - first,
count).  A commit adds a segment; when eight of about one size stand at the end they become one
(the logarithmic method of Bentley and Saxe, 1980), so that a search reads few rows whatever
the commits were.  Dead slots are dropped then, and overlooked until then.

Not FTS5, because its ``bm25()`` has k1 and b fixed, counts idf as at most 0 for what stands in half
of the chunks, and takes time per match in C callbacks; because deleting from its contentless
tables needs the old terms again; and because not every SQLite has it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.index.store.sqlite.slots import SlotView

SPAN = 1 << 16
"""Slots that a segment covers at most: offsets have 16 bits."""
MERGED = 8
"""Segments of about one size that become one."""
K1, B = 1.5, 0.75
"""BM25's saturation and length normalization (Robertson and Zaragoza, 2009, section 3.2)."""

POSTING = np.dtype([("offset", "<u2"), ("count", "<u2")])
Postings = NDArray[Any]


@dataclass(frozen=True)
class Segment:
    """Postings of the slots [first, first + count), yet to be written: term -> rows."""

    count: int
    rows: list[tuple[bytes, bytes]]
    lengths: NDArray[np.int64]
    """(count,): terms in each chunk, repetitions counted."""
    checksums: NDArray[np.uint64]
    """(count,): sum over the chunk's terms of count x hash, modulo 2^64."""


def term_bytes(term: str) -> bytes:
    """A term as it is stored."""
    return term.encode("utf-8", "surrogatepass")


def term_hash(term: bytes) -> int:
    """64 bits that stand for a term in checksums."""
    return int.from_bytes(hashlib.blake2b(term, digest_size=8).digest(), "little")


def build_segment(chunks: Sequence[Sequence[str]]) -> Segment:
    """The segment of these chunks' terms, at most ``SPAN`` chunks."""
    count = len(chunks)
    lengths = np.array([len(terms) for terms in chunks], dtype=np.int64)
    flat = list(chain.from_iterable(chunks))
    numbers: dict[str, int] = {term: at for at, term in enumerate(sorted(set(flat)))}
    ids = np.fromiter(map(numbers.__getitem__, flat), dtype=np.int64, count=len(flat))
    keys = (ids << 16) | np.repeat(np.arange(count), lengths)
    keys, counts = np.unique(keys, return_counts=True)
    counts = np.minimum(counts, SPAN - 1)
    postings = np.empty(len(keys), dtype=POSTING)
    postings["offset"], postings["count"] = keys & 0xFFFF, counts
    words = [term_bytes(term) for term in numbers]
    bounds = np.searchsorted(keys >> 16, np.arange(len(words) + 1))
    checksums = np.zeros(count, dtype=np.uint64)
    hashes = np.array([term_hash(word) for word in words], dtype=np.uint64)
    if len(keys):
        np.add.at(checksums, keys & 0xFFFF, hashes[keys >> 16] * counts.astype(np.uint64))
    kept = np.bincount(keys & 0xFFFF, weights=counts, minlength=count).astype(np.int64)
    return Segment(count, list(zip(words, _cut(postings, bounds), strict=True)), kept, checksums)


def _cut(postings: Postings, bounds: NDArray[np.int64]) -> Iterator[bytes]:
    data, at = postings.tobytes(), (bounds * POSTING.itemsize).tolist()
    return (data[start:end] for start, end in pairwise(at))


def write_segment(
    connection: sqlite3.Connection, first: int, count: int, rows: Sequence[tuple[bytes, bytes]]
) -> None:
    """Add a segment whose first slot is ``first``."""
    cursor = connection.execute("INSERT INTO segments(first, count) VALUES (?, ?)", (first, count))
    number = cursor.lastrowid
    connection.executemany(
        "INSERT INTO postings VALUES (?, ?, ?)", ((number, term, data) for term, data in rows)
    )


def merge_segments(connection: sqlite3.Connection, view: SlotView) -> None:
    """Make one of the segments at the end while there are too many of about one size."""
    while True:
        found = connection.execute(
            "SELECT number, first, count FROM segments ORDER BY first"
        ).fetchall()
        chosen = to_merge([(first, count) for _, first, count in found])
        if not chosen:
            return
        replace_segments(connection, found[-chosen:], view)


def to_merge(sizes: Sequence[tuple[int, int]]) -> int:
    """How many segments at the end to make one: 0, or at least two.

    ``MERGED`` of one tier, and all smaller ones behind them; or several of one tier that no other
    may join, because the segment before them is too far away.  sizes: (first slot, slots covered),
    in order.
    """
    tiers = [(count.bit_length() + 2) // 3 for _, count in sizes]  # a tier is a factor of 8
    end = sum(sizes[-1]) if sizes else 0
    for tier in sorted(set(tiers)):
        run = same = covered = 0
        closed = False
        for (first, _), its in zip(reversed(sizes), reversed(tiers), strict=True):
            closed = end - first > SPAN
            if closed or its > tier:
                break
            run, same, covered = run + 1, same + (its == tier), end - first
        if same >= MERGED or (closed and same >= 2 and covered * 2 >= SPAN):
            return run
    return 0


def replace_segments(
    connection: sqlite3.Connection, old: Sequence[tuple[int, int, int]], view: SlotView
) -> None:
    """Write one segment in the place of consecutive ones, without the dead.

    old: (number, first slot, slots covered), in order.
    """
    first, end = old[0][1], old[-1][1] + old[-1][2]
    terms, postings, per_term = _gathered(connection, old, first)
    alive = view.live[first:end][postings["offset"]]
    rows = _living(terms, postings, per_term, alive)
    drop_segments(connection, [number for number, _, _ in old])
    write_segment(connection, first, end - first, rows)


def renumber_segments(connection: sqlite3.Connection, view: SlotView) -> None:
    """Write all postings anew for slots that are counted without the dead."""
    ranks = np.concatenate([[0], np.cumsum(view.live)])
    query = "SELECT number, first, count FROM segments ORDER BY first"
    found: list[tuple[int, int, int]] = connection.execute(query).fetchall()
    while found:
        first = found[0][1]
        group = [row for row in found if row[1] + row[2] - first <= SPAN]
        found = found[len(group) :]
        end = group[-1][1] + group[-1][2]
        terms, postings, per_term = _gathered(connection, group, first)
        alive = view.live[first:end][postings["offset"]]
        postings["offset"] = ranks[first:end][postings["offset"]] - ranks[first]
        rows = _living(terms, postings, per_term, alive)
        drop_segments(connection, [number for number, _, _ in group])
        if rows:
            write_segment(connection, int(ranks[first]), int(ranks[end] - ranks[first]), rows)


def _living(
    terms: Sequence[bytes],
    postings: Postings,
    per_term: NDArray[np.int64],
    alive: NDArray[np.bool_],
) -> list[tuple[bytes, bytes]]:
    """A row for each term that is left."""
    owners = np.repeat(np.arange(len(terms)), per_term)[alive]
    bounds = np.searchsorted(owners, np.arange(len(terms) + 1))
    cut = _cut(postings[alive], bounds)
    return [(term, data) for term, data in zip(terms, cut, strict=True) if data]


def _gathered(
    connection: sqlite3.Connection, old: Sequence[tuple[int, int, int]], first: int
) -> tuple[list[bytes], Postings, NDArray[np.int64]]:
    """Terms of several segments, their postings in order of term and slot, and how many each."""
    data: dict[bytes, list[bytes]] = {}
    shifts: dict[bytes, list[tuple[int, int]]] = {}
    for number, start, _ in old:
        query = "SELECT term, data FROM postings WHERE segment = ?"
        for term, blob in connection.execute(query, (number,)):
            data.setdefault(term, []).append(blob)
            shifts.setdefault(term, []).append((start - first, len(blob) // POSTING.itemsize))
    terms = sorted(data)
    joined = b"".join(chain.from_iterable(data[term] for term in terms))
    postings = np.frombuffer(joined, dtype=POSTING).copy()
    runs = np.array([run for term in terms for run in shifts[term]], dtype=np.int64).reshape(-1, 2)
    postings["offset"] += np.repeat(runs[:, 0], runs[:, 1]).astype(np.uint16)
    per_term = [sum(length for _, length in shifts[term]) for term in terms]
    return terms, postings, np.array(per_term, dtype=np.int64)


def drop_segments(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Remove segments with their postings."""
    rows = [(number,) for number in numbers]
    connection.executemany("DELETE FROM postings WHERE segment = ?", rows)
    connection.executemany("DELETE FROM segments WHERE number = ?", rows)


def bm25(
    connection: sqlite3.Connection, terms: Sequence[str], view: SlotView
) -> NDArray[np.float32]:
    """Scores of all slots, (S,); dead slots and those without any of the terms have 0.

    sum over terms of idf x tf (K1 + 1) / (tf + K1 (1 - B + B length / mean length)), idf =
    ln(1 + (N - n + 1/2) / (n + 1/2)): positive whatever share n of the N chunks has the term.
    """
    scores = np.zeros(len(view.slots), dtype=np.float32)
    segments = connection.execute("SELECT number, first FROM segments ORDER BY first").fetchall()
    floor = K1 * (1 - B + B * view.relative_length)
    for term, times in Counter(terms).items():
        slots, counts = read_postings(connection, term_bytes(term), segments)
        alive = view.live[slots]
        slots, tf = slots[alive], counts[alive].astype(np.float32)
        n = len(slots)
        idf = np.log1p((view.count - n + 0.5) / (n + 0.5))
        scores[slots] += (times * idf * (K1 + 1)) * tf / (tf + floor[slots])
    return scores


def frequencies(connection: sqlite3.Connection, terms: Sequence[str], view: SlotView) -> list[int]:
    """How many living chunks hold each term."""
    segments = connection.execute("SELECT number, first FROM segments ORDER BY first").fetchall()
    found = (read_postings(connection, term_bytes(term), segments)[0] for term in terms)
    return [int(view.live[slots].sum()) for slots in found]


def read_postings(
    connection: sqlite3.Connection, term: bytes, segments: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slots that hold a term, dead ones included, and how often.  segments: (number, first)"""
    slots, counts = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    query = "SELECT data FROM postings WHERE segment = ? AND term = ?"
    for number, first in segments:
        row = connection.execute(query, (number, term)).fetchone()
        if row is not None:
            found = np.frombuffer(row[0], dtype=POSTING)
            slots.append(found["offset"] + np.int64(first))
            counts.append(found["count"].astype(np.int64))
    return np.concatenate(slots), np.concatenate(counts)
