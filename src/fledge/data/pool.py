"""Worker processes that survive their documents: time limits, crashes, a parent that is killed.

Tasks go out over pipes and results come back in any order.  A worker tells in shared memory which
item it is at, so that an item which kills or stalls a worker is known, skipped and reported.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from fledge.core.errors import FledgeError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

GRACE_SECONDS = 5.0
"""Time a worker gets beyond an item's own limit before it is killed."""

ATTEMPTS = 12
"""Workers that one task may cost before it is given up."""


class OutOfTime(Exception):
    """An item took longer than its limit."""


class Place:
    """Which item a worker is at, in memory that the parent sees."""

    def __init__(self, index: Any, since: Any) -> None:
        self._index, self._since = index, since

    def enter(self, index: int) -> None:
        """The worker begins item ``index``; -1: none."""
        self._index.value, self._since.value = index, time.monotonic()

    def read(self) -> tuple[int, float]:
        """(item, seconds since it began)."""
        return self._index.value, time.monotonic() - self._since.value


@dataclass
class _Worker(Generic[TaskT]):
    process: Any
    pipe: Connection
    place: Place
    task: TaskT | None = None
    bad: dict[int, str] = field(default_factory=dict)
    """Items of the task that must not be tried again, with the reason."""

    attempts: int = 0


Work = Callable[[TaskT, dict[int, str], Place], ResultT]
"""What a worker does: (task, items to skip with the reason, where to tell the place) -> result."""


def run_tasks(
    work: Work[TaskT, ResultT], tasks: Iterable[TaskT], workers: int, item_seconds: float
) -> Iterator[ResultT]:
    """Results of ``work`` over ``tasks``, in the order in which they are done.

    ``work`` must be importable.  At most ``workers`` tasks are held in memory.
    """
    context = mp.get_context("spawn")
    pool: list[_Worker[TaskT]] = []
    waiting = iter(tasks)
    try:
        for task in waiting:
            pool.append(_start(context, work, task, {}))
            if len(pool) == workers:
                break
        while pool:
            pipes = [worker.pipe for worker in pool]
            ready = wait([*pipes, *(worker.process.sentinel for worker in pool)], timeout=0.5)
            for worker in tuple(pool):
                if worker.pipe in ready or worker.process.sentinel in ready:
                    yield from _collect(context, work, pool, worker, waiting)
                elif _stalls(worker, item_seconds):
                    _replace(context, work, pool, worker, "timeout")
    finally:
        for worker in pool:
            worker.process.kill()
        for worker in pool:
            worker.process.join()
            worker.pipe.close()


def _stalls(worker: _Worker[TaskT], item_seconds: float) -> bool:
    index, seconds = worker.place.read()
    return index >= 0 and seconds > item_seconds + GRACE_SECONDS


def _start(
    context: Any, work: Work[TaskT, ResultT], task: TaskT, bad: dict[int, str], attempts: int = 0
) -> _Worker[TaskT]:
    ours, theirs = context.Pipe()
    place = Place(context.RawValue("i", -1), context.RawValue("d", 0.0))
    process = context.Process(target=_serve, args=(work, theirs, place), daemon=True)
    process.start()
    theirs.close()
    ours.send((task, bad))
    return _Worker(process=process, pipe=ours, place=place, task=task, bad=bad, attempts=attempts)


def _collect(
    context: Any,
    work: Work[TaskT, ResultT],
    pool: list[_Worker[TaskT]],
    worker: _Worker[TaskT],
    waiting: Iterator[TaskT],
) -> Iterator[ResultT]:
    """Take a worker's result and give it the next task; replace a worker that died."""
    try:
        result, error = worker.pipe.recv()
    except (EOFError, OSError):
        _replace(context, work, pool, worker, "crash")
        return
    if error is not None:
        raise error
    yield result
    task = next(waiting, None)
    if task is None:
        pool.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
    else:
        worker.task, worker.bad, worker.attempts = task, {}, 0
        worker.pipe.send((task, {}))


def _replace(
    context: Any,
    work: Work[TaskT, ResultT],
    pool: list[_Worker[TaskT]],
    worker: _Worker[TaskT],
    reason: str,
) -> None:
    """A new worker for the task of one that died or stalls, without the item it was at."""
    index, _ = worker.place.read()
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
    assert worker.task is not None
    bad = {**worker.bad, index: reason} if index >= 0 else worker.bad
    attempts = worker.attempts + (index < 0)
    if attempts > ATTEMPTS:
        raise FledgeError(
            f"worker processes keep dying (exit code {worker.process.exitcode})",
            remedy="free memory or lower corpus.workers",
        )
    pool[pool.index(worker)] = _start(context, work, worker.task, bad, attempts)


def _serve(work: Work[TaskT, ResultT], pipe: Connection, place: Place) -> None:
    """The worker's loop; it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _alarm)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task, bad = pipe.recv()
            try:
                answer: tuple[Any, Exception | None] = (work(task, bad, place), None)
            except Exception as error:  # handed to the parent, which raises it
                answer = (None, _portable(error))
            place.enter(-1)
            pipe.send(answer)


def _portable(error: Exception) -> Exception:
    """An error that survives the pipe."""
    if type(error).__module__ == "builtins":
        return error
    remedy = getattr(error, "remedy", "")
    return FledgeError(f"{type(error).__name__}: {error}", remedy=remedy)


def _alarm(signum: int, frame: object) -> None:
    raise OutOfTime


@dataclass
class limited:
    """Within the block, OutOfTime is raised after ``seconds`` (in a process's main thread)."""

    seconds: float

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
