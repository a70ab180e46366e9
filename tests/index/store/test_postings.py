"""The inverted index: how much is written over and over, and how many segments a search reads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fledge.core.types import Document
from fledge.index.chunk import Chunk
from fledge.index.store.protocol import Entry
from fledge.index.store.sqlite.postings import SPAN, build_segment, to_merge
from fledge.index.store.sqlite.store import SqliteStore


@pytest.mark.parametrize("kind", ["ones", "batches", "after a build", "mixed"])
def test_merging_writes_little_and_leaves_few(kind: str) -> None:
    drawn = random.Random(0)
    commits = {
        "ones": [2] * 20_000,
        "batches": [2000] * 200,
        "after a build": [60_000, 42_000, *([3] * 20_000)],
        "mixed": [drawn.choice([1, 5, 300, 9000]) for _ in range(3000)],
    }[kind]
    sizes: list[tuple[int, int]] = []
    written = most = 0
    for count in commits:
        first = sum(sizes[-1]) if sizes else 0
        sizes.append((first, count))
        written += count
        while run := to_merge(sizes):
            assert run >= 2
            start, end = sizes[-run][0], sum(sizes[-1])
            assert end - start <= SPAN
            written += end - start
            sizes[-run:] = [(start, end - start)]
        most = max(most, len(sizes))
    total = sum(commits)
    assert written <= 8 * total
    assert most <= 45 + 2.5 * total / SPAN


def test_a_segment_counts_and_sums() -> None:
    segment = build_segment([["a", "b", "a"], [], ["b"]])
    assert segment.lengths.tolist() == [3, 0, 1]
    assert [term for term, _ in segment.rows] == [b"a", b"b"]
    assert segment.checksums[1] == 0
    again = build_segment([["b", "a", "a"], ["b"]])
    assert again.checksums.tolist() == [segment.checksums[0], segment.checksums[2]]
    assert build_segment([]).rows == []
    assert build_segment([["x"] * 70_000]).lengths.tolist() == [SPAN - 1]


def test_a_document_of_more_slots_than_a_segment(tmp_path: Path) -> None:
    count = SPAN + 5000
    entry = Entry(
        document=Document(id="large", text="abcdefgh" * count),
        path="large",
        kind="plain",
        fingerprint="",
        chunks=tuple(Chunk(start=8 * at, end=8 * at + 8) for at in range(count)),
        terms=tuple((f"w{at % 1000}",) for at in range(count)),
    )
    store = SqliteStore.create(tmp_path, {})
    for change in (lambda: store.commit([entry]), lambda: store.commit([entry]), store.compact):
        change()
        assert store.verify() == []
        with store.snapshot() as snapshot:
            hits = snapshot.matching(["w7"], 1000)
            assert len(hits) == sum(at % 1000 == 7 for at in range(count))
            places = [seen.span.start // 8 for seen in snapshot.chunks([h.chunk for h in hits])]
            assert all(place % 1000 == 7 for place in places)
    store.close()
