"""Prefetched batches are the very batches; the thread never outlives its use or hides an error."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from pathlib import Path

import pytest
import torch

from fledge.train.batch import Batch, Rows
from fledge.train.loader import PackedLoader
from fledge.train.prefetch import Prefetched
from fledge.train.shards import TokenShards
from pico_shards import pattern_shards


class Slow:
    """Batches that say their step, after a while; one of them is broken."""

    def __init__(self, pause: float = 0.0, broken: int = -1) -> None:
        self.pause, self.broken = pause, broken
        self.built: list[int] = []

    def __getitem__(self, step: int) -> Batch:
        time.sleep(self.pause)
        self.built.append(step)
        if step == self.broken:
            raise ValueError(f"shard of step {step} is broken")
        rows = Rows(1, 2, step)
        return rows.batch()

    def fingerprint(self) -> str:
        return "slow"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fledge-batches"]


def test_the_batches_are_the_same(tmp_path: Path) -> None:
    plain = PackedLoader(
        TokenShards(pattern_shards(tmp_path), "train"), context=16, batch_rows=4, seed=3
    )
    with Prefetched(plain) as ahead:
        for step in (*range(30), 5, 6, 40, 39):
            for ours, theirs in zip(ahead[step][:4], plain[step][:4], strict=True):
                assert torch.equal(ours, theirs)
        assert ahead.fingerprint() == plain.fingerprint()
    assert not threads()


def test_building_happens_while_the_step_computes() -> None:
    slow = Slow(pause=0.05)
    with Prefetched(slow) as ahead:
        assert int(ahead[0].ids[0, 0]) == 0
        first = ahead.waited_seconds
        for step in range(1, 5):
            time.sleep(0.15)  # the step
            assert int(ahead[step].ids[0, 0]) == step
        assert first >= 0.05
        assert ahead.waited_seconds - first < 4 * 0.05  # a loader in the step waits at least that


def test_waiting_is_measured_where_the_loader_is_too_slow() -> None:
    with Prefetched(Slow(pause=0.03)) as ahead:
        for step in range(4):
            ahead[step]
        assert ahead.waited_seconds >= 0.09


def test_no_more_is_built_than_asked_for() -> None:
    slow = Slow()
    with Prefetched(slow, ahead=2, stop=5) as ahead:
        ahead[0]
        time.sleep(0.1)
        assert slow.built == [0, 1, 2]
        for step in range(1, 5):
            ahead[step]
        time.sleep(0.1)
        assert slow.built == [0, 1, 2, 3, 4]
        assert int(ahead[5].ids[0, 0]) == 5  # asked for, it is built all the same


def test_an_error_comes_out_where_the_batch_is_asked_for() -> None:
    slow = Slow(broken=2)
    with Prefetched(slow) as ahead:
        ahead[0], ahead[1]
        with pytest.raises(ValueError, match="shard of step 2 is broken") as caught:
            ahead[2]
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[-1] == "__getitem__"  # of Slow: the place where it broke
        assert len(frames) > 3
        slow.broken = -1
        assert int(ahead[2].ids[0, 0]) == 2  # tried again
        assert int(ahead[3].ids[0, 0]) == 3
    assert not threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_thread_is_left_however_it_ends(error: type[BaseException]) -> None:
    def use() -> None:
        with Prefetched(Slow(pause=0.01)) as ahead:
            ahead[0]
            assert len(threads()) == 1
            raise error

    with pytest.raises(error):
        use()
    assert not threads()


def test_a_forgotten_one_ends_its_thread() -> None:
    ahead = Prefetched(Slow())
    ahead[0]
    (thread,) = threads()
    del ahead
    gc.collect()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_it_can_be_used_again_after_closing() -> None:
    ahead = Prefetched(Slow())
    for _ in range(2):
        assert int(ahead[3].ids[0, 0]) == 3
        ahead.close()
        assert not threads()


def test_without_reading_ahead_there_is_no_thread() -> None:
    """What depends on the weights is built when it is asked for, not while they change."""
    slow = Slow()
    with Prefetched(slow, ahead=0, stop=9) as batches:
        assert batches[3].ids[0, 0] == 3
        assert not threads()
        assert slow.built == [3]
        assert batches[4].ids[0, 0] == 4
    assert slow.built == [3, 4]
