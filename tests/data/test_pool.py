"""Workers that crash, stall or raise: the item is named, the rest is done."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import fledge.data.pool as pool
from fledge.core.errors import FledgeError
from fledge.data.pool import OutOfTime, Place, limited, run_tasks


def double(task: list[int], bad: dict[int, str], place: Place) -> list[Any]:
    results: list[Any] = []
    for index, item in enumerate(task):
        place.enter(index)
        if index in bad:
            results.append(bad[index])
        elif item == -1:
            os.kill(os.getpid(), 9)
        elif item == -2:
            time.sleep(3600)
        elif item == -3:
            raise ValueError("no good")
        else:
            results.append(2 * item)
    return results


def test_crashing_and_stalling_items_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.2)
    tasks = [[1, 2], [3, -1, 4, -1], [5, -2], [6]]
    found = sorted(run_tasks(double, tasks, 2, 0.3), key=str)
    assert found == sorted([[2, 4], [6, "crash", 8, "crash"], [10, "timeout"], [12]], key=str)


def test_errors_reach_the_caller() -> None:
    with pytest.raises(ValueError, match="no good"):
        list(run_tasks(double, [[1], [-3]], 1, 5.0))


def fail_at_once(task: int, bad: dict[int, str], place: Place) -> int:
    os._exit(3)


def test_a_worker_that_never_lives_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ATTEMPTS", 1)
    with pytest.raises(FledgeError, match="keep dying"):
        list(run_tasks(fail_at_once, [1], 1, 5.0))


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken = []

    def tasks() -> Any:
        for number in range(20):
            taken.append(number)
            yield [number]

    results = run_tasks(double, tasks(), 1, 5.0)
    next(results)
    assert len(taken) <= 2
    results.close()  # type: ignore[attr-defined]


def test_time_limit() -> None:
    import signal

    former = signal.signal(signal.SIGALRM, pool._alarm)
    try:
        with pytest.raises(OutOfTime), limited(0.05):
            time.sleep(5)
        with limited(5):
            pass
        time.sleep(0.01)
    finally:
        signal.signal(signal.SIGALRM, former)
