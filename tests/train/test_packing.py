"""Best-fit packing: everything once, no row too full, few cuts, a million pieces in seconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.train.packing import Packing, best_fit, pack

lengths = st.lists(st.integers(0, 60), max_size=80)


def check(packing: Packing, sizes: np.ndarray, capacity: int) -> None:
    """Every token of every document is in one piece, and every row fits."""
    rows = np.repeat(np.arange(packing.rows), np.diff(packing.begins))
    loads = np.bincount(rows, weights=packing.lengths, minlength=packing.rows)
    assert (packing.lengths > 0).all()
    assert (loads <= capacity).all()
    assert (loads > 0).all()
    order = np.lexsort((packing.starts, packing.documents))
    documents, starts = packing.documents[order], packing.starts[order]
    ends = starts + packing.lengths[order]
    new = np.append(True, documents[1:] != documents[:-1])[: len(documents)]
    assert (starts[new] == 0).all()
    assert (starts[1:] == ends[:-1])[~new[1:]].all()
    assert (ends[np.append(new[1:], True)[: len(ends)]] == sizes[sizes > 0]).all()
    assert set(documents.tolist()) == set(np.flatnonzero(sizes).tolist())


@given(sizes=lengths, capacity=st.integers(2, 70), seed=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_every_token_is_in_one_row_and_none_is_too_full(
    sizes: list[int], capacity: int, seed: int
) -> None:
    numbers = np.array(sizes, dtype=np.int64)
    packing = pack(numbers, capacity, np.random.default_rng(seed))
    check(packing, numbers, capacity)
    assert packing.rows == pack(numbers, capacity, np.random.default_rng(99)).rows


def plain_best_fit(sizes: list[int], capacity: int) -> list[int]:
    """Loads of the rows, one piece at a time: the definition."""
    rooms: list[int] = []
    for size in sizes:
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms[rooms.index(min(fitting))] -= size
        else:
            rooms.append(capacity - size)
    return sorted(capacity - room for room in rooms)


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60), capacity=st.integers(40, 90))
@settings(max_examples=80, deadline=None)
def test_placing_many_at_once_is_best_fit(sizes: list[int], capacity: int) -> None:
    falling = np.sort(np.array(sizes))[::-1]
    rows = best_fit(falling, capacity)
    loads = np.bincount(rows, weights=falling)
    assert sorted(loads.tolist()) == plain_best_fit(falling.tolist(), capacity)


@pytest.mark.parametrize(("capacity", "documents"), [(256, 200_000), (4096, 1_000_000)])
def test_a_million_documents(capacity: int, documents: int) -> None:
    generator = np.random.default_rng(0)
    sizes = np.maximum(1, generator.lognormal(5.5, 1.0, documents)).astype(np.int64)
    packing = pack(sizes, capacity, generator)
    check(packing, sizes, capacity)
    assert 1 - sizes.sum() / (packing.rows * capacity) < 0.001
    uncut = sizes <= capacity
    pieces = np.bincount(packing.documents, minlength=len(sizes))
    assert (pieces[uncut] == 1).mean() > 0.99
    assert (pieces[~uncut] <= -(-sizes[~uncut] // capacity) + 1).mean() > 0.99


@pytest.mark.parametrize("size", [90, 110, 154, 200, 230])
def test_documents_that_leave_gaps_are_cut_to_fill_them(size: int) -> None:
    sizes = np.full(1000, size)
    packing = pack(sizes, 256, np.random.default_rng(0))
    check(packing, sizes, 256)
    assert 1 - sizes.sum() / (packing.rows * 256) < 0.035
    stream_cuts = 1000 * size // 256
    assert len(packing.lengths) - 1000 <= stream_cuts + 1


def test_the_generator_decides_who_shares_a_row() -> None:
    sizes = np.random.default_rng(3).integers(1, 30, 200)
    one, same, other = (pack(sizes, 32, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(
        (getattr(one, part) == getattr(same, part)).all()
        for part in ("documents", "starts", "lengths", "begins")
    )
    assert (one.documents != other.documents).any()
