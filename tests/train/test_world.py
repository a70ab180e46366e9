"""The world of one process answers at once; rows and batches are shared out without loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fledge.core.errors import FledgeError, InputError
from fledge.train.batch import Batch
from fledge.train.config import LoopConfig
from fledge.train.world import ALONE, World, asked_size, heard, join_world


def batch(rows: int, first: int = 0) -> Batch:
    numbers = torch.arange(first, first + rows)[:, None].repeat(1, 3)
    return Batch(numbers, numbers, torch.zeros_like(numbers), torch.ones(rows, 3))


@given(size=st.integers(1, 8), each=st.integers(1, 5))
def test_shares_laid_end_to_end_are_the_batch(size: int, each: int) -> None:
    whole = batch(size * each)
    parts = [World(rank=rank, size=size).share(whole) for rank in range(size)]
    assert all(part.ids.shape[0] == each for part in parts)
    for number, tensor in enumerate(whole[:4]):
        assert torch.equal(torch.cat([part[number] for part in parts]), tensor)


def test_rows_that_do_not_divide_are_an_error_that_says_what_to_set() -> None:
    with pytest.raises(InputError, match="batch_rows = 6 cannot be divided among 4") as caught:
        World(rank=3, size=4).share(batch(6))
    assert "multiple of 4" in str(caught.value)


@given(size=st.integers(1, 6), batches=st.integers(0, 20))
def test_batches_are_dealt_equally_and_each_counts_once(size: int, batches: int) -> None:
    whole = [batch(2, first=10 * number) for number in range(batches)]
    hands = [list(World(rank=rank, size=size).deal(whole)) for rank in range(size)]
    assert len({len(hand) for hand in hands}) == 1  # all compute equally often
    counted = [int(one.ids[0, 0]) for hand in hands for one, _ in hand if one.weights.any()]
    assert sorted(counted) == [10 * number for number in range(batches)]
    for hand in hands:  # each knows what all of them have counted
        assert sum(counts for _, counts in hand) == 6 * batches


def test_alone_everything_is_at_once() -> None:
    assert ALONE.is_main
    assert ALONE.sums(1, 2.5) == (1.0, 2.5)
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.first(lambda: {"done": 1}) == {"done": 1}
    ALONE.barrier()


def test_without_torchrun_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # other tools set it, too
    assert asked_size() == 1
    with join_world(LoopConfig()) as world:
        assert world is ALONE
    assert not torch.distributed.is_initialized()


def test_a_variable_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE is 'two'"), join_world(LoopConfig()):
        pass


def test_only_failures_of_exchanges_are_told_as_such() -> None:
    with pytest.raises(FledgeError, match="another process of this run stopped"), heard():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), heard():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
