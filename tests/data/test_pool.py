"""Workers that crash, stall or raise: the item is named, the rest is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
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


def _spin() -> None:
    while True:
        pass


def test_time_limit() -> None:
    former = signal.signal(signal.SIGPROF, pool._alarm)
    ending = time.process_time() + 0.2
    try:
        with pytest.raises(OutOfTime), limited(0.05):
            _spin()
        with limited(0.05):
            time.sleep(0.3)  # no processor time: a stopped process is not a slow document
        while time.process_time() < ending:  # the timer is off
            pass
    finally:
        signal.signal(signal.SIGPROF, former)


def test_no_library_swallows_the_end_of_time() -> None:
    with pytest.raises(OutOfTime):
        _careless_library()


def _careless_library() -> None:
    try:
        pool._alarm(signal.SIGPROF, None)
    except Exception:
        pytest.fail("a limit must not look like an error")


def die_once(
    task: tuple[str, int], bad: dict[int, str], place: Place
) -> tuple[int, dict[int, str]]:
    """Item 0 kills its first worker; notes when each task began and ended."""
    folder, number = Path(task[0]), task[1]
    place.enter(0)
    begun = time.monotonic()
    if number == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), 9)
    time.sleep(0.3)
    (folder / f"{number}.times").write_text(f"{begun} {time.monotonic()}")
    return number, bad


def test_a_victim_is_tried_again_alone(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(5)]
    found = dict(run_tasks(die_once, tasks, 2, 5.0))
    assert found == {number: {} for number in range(5)}
    times = [
        tuple(map(float, (tmp_path / f"{number}.times").read_text().split())) for number in range(5)
    ]
    begun, ended = times.pop(1)
    assert all(end <= begun or begin >= ended for begin, end in times)


def leave(task: int, bad: dict[int, str], place: Place) -> int:
    """Dies soon after its answer, as a worker that the system kills between two tasks."""
    place.enter(0)
    if task == 0:
        threading.Timer(0.05, os._exit, (1,)).start()
    return task


def test_a_worker_that_dies_between_tasks_is_replaced() -> None:
    found = []
    for result in run_tasks(leave, [0, 1, 2], 1, 5.0):
        found.append(result)
        time.sleep(0.4)
    assert found == [0, 1, 2]


SCRIPT = """
import os, sys, time
from pathlib import Path
from fledge.data.pool import run_tasks

def wait(task, bad, place):
    Path(sys.argv[1], str(os.getpid())).touch()
    while True:
        place.enter(0)
        time.sleep(0.02)

if __name__ == "__main__":
    print("go", flush=True)
    try:
        list(run_tasks(wait, range(3), 3, 60.0))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def begin(folder: Path) -> subprocess.Popen[str]:
    (folder / "go.py").write_text(SCRIPT)
    (folder / "pids").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(folder / "go.py"), str(folder / "pids")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


@pytest.mark.parametrize("wait", [0.1, 0.2])
def test_ctrl_c_while_workers_start_is_quiet(tmp_path: Path, wait: float) -> None:
    process = begin(tmp_path)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    process = begin(tmp_path)
    limit = time.monotonic() + 30
    while len(pids := list((tmp_path / "pids").iterdir())) < 3 and time.monotonic() < limit:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=20)
    while any(_lives(int(pid.name)) for pid in pids) and time.monotonic() < limit:
        time.sleep(0.02)
    assert len(pids) == 3
    assert not any(_lives(int(pid.name)) for pid in pids)


def _lives(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody has waited for does not)."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")


def test_a_worker_is_deaf_to_ctrl_c_from_its_first_instruction() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    with pytest.raises(KeyboardInterrupt):
        _start_and_interrupt(code)


def _start_and_interrupt(code: str) -> None:
    with pool._no_interrupts():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # waits for the block's end
        assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
