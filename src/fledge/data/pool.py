"""Worker processes that survive their documents: time limits, crashes, a parent that is killed.

Tasks go out over pipes and results come back in any order.  A worker tells in shared memory which
item it is at, so that an item which kills or stalls a worker is known, skipped and reported.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, Generic, TypeVar

from fledge.core.errors import FledgeError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

GRACE_SECONDS = 5.0
"""Time a worker gets beyond an item's own limit before it is killed."""

GLANCE_SECONDS = 1.0
"""Most that one look at the workers counts: while this process stands still, so may they."""

ATTEMPTS = 12
"""Workers that one task may cost before it is given up."""


class OutOfTime(BaseException):
    """An item took longer than its limit; no Exception, so that no library swallows it."""


class Place:
    """Which item a worker is at, in memory that the parent sees."""

    def __init__(self, index: Any, since: Any) -> None:
        self._index, self._since = index, since

    def enter(self, index: int) -> None:
        """The worker begins item ``index``; -1: none.  A worker without a parent ends here."""
        parent = mp.parent_process()
        if parent is not None and os.getppid() != parent.pid:
            os._exit(1)
        self._since.value = time.monotonic()  # first: an item must not inherit another's start
        self._index.value = index

    def read(self) -> tuple[int, float]:
        """(item, when it began on the worker's clock)."""
        return self._index.value, self._since.value


@dataclass
class _Job(Generic[TaskT]):
    """A task and what became of its items so far."""

    task: TaskT
    bad: dict[int, str] = field(default_factory=dict)
    """Items that must not be tried again, with the reason."""

    suspects: set[int] = field(default_factory=set)
    """Items that a worker was lost at once; they get a second chance alone."""

    attempts: int = 0


@dataclass
class _Worker(Generic[TaskT]):
    process: Any
    pipe: Connection
    place: Place
    job: _Job[TaskT]
    stood: tuple[int, float] = (-1, 0.0)
    """Where it was when last looked at ..."""

    waited: float = 0.0
    """... and the seconds it was seen there."""


Work = Callable[[TaskT, dict[int, str], Place], ResultT]
"""What a worker does: (task, items to skip with the reason, where to tell the place) -> result."""


def run_tasks(
    work: Work[TaskT, ResultT], tasks: Iterable[TaskT], workers: int, item_seconds: float
) -> Iterator[ResultT]:
    """Results of ``work`` over ``tasks``, in the order in which they are done.

    ``work`` must be importable.  At most ``workers`` tasks are held in memory.  An item at which a
    worker is lost is tried once more while no other worker runs: it may have been the victim of a
    lack of memory.  When that worker is lost too, ``work`` is told to leave the item out.
    """
    pool = _Pool(work, iter(tasks), workers, item_seconds)
    try:
        while pool.fill():
            yield from pool.look()
    finally:
        pool.close()


class _Pool(Generic[TaskT, ResultT]):
    """The workers, the tasks to come, and the jobs that must be done again."""

    def __init__(
        self,
        work: Work[TaskT, ResultT],
        tasks: Iterator[TaskT],
        workers: int,
        item_seconds: float,
    ) -> None:
        self._work, self._tasks, self._size = work, tasks, workers
        self._patience = item_seconds + GRACE_SECONDS
        self._workers: list[_Worker[TaskT]] = []
        self._again: list[_Job[TaskT]] = []
        self._context = mp.get_context("spawn")
        self._looked = time.monotonic()

    def fill(self) -> bool:
        """Start the workers that there is work for; False when all is done."""
        while len(self._workers) < self._size and (job := self._next()) is not None:
            self._workers.append(self._start(job))
        return bool(self._workers)

    def _next(self) -> _Job[TaskT] | None:
        """The job to begin now.  Jobs that lost a worker wait until they can run alone."""
        if self._again:
            return self._again.pop() if not self._workers else None
        if any(worker.job.suspects for worker in self._workers):
            return None
        for task in self._tasks:
            return _Job(task)
        return None

    def look(self) -> Iterator[ResultT]:
        """Wait for the workers; take what is done, replace who died or does not move."""
        pipes = [worker.pipe for worker in self._workers]
        ends = [worker.process.sentinel for worker in self._workers]
        ready = wait([*pipes, *ends], timeout=0.5)
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, GLANCE_SECONDS), now
        for worker in tuple(self._workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                yield from self._collect(worker)
            elif self._stalls(worker, passed):
                self._lose(worker, "timeout")

    def _stalls(self, worker: _Worker[TaskT], passed: float) -> bool:
        stands = worker.place.read()
        worker.waited = worker.waited + passed if stands == worker.stood else 0.0
        worker.stood = stands
        return stands[0] >= 0 and worker.waited > self._patience

    def _start(self, job: _Job[TaskT]) -> _Worker[TaskT]:
        ours, theirs = self._context.Pipe()
        place = Place(self._context.RawValue("i", -1), self._context.RawValue("d", 0.0))
        process = self._context.Process(target=_serve, args=(self._work, theirs, place))
        process.daemon = True
        with _no_interrupts(), _without_main(self._work):
            process.start()
        theirs.close()
        worker = _Worker(process, ours, place, job)
        _send(worker)
        return worker

    def _collect(self, worker: _Worker[TaskT]) -> Iterator[ResultT]:
        """Take a worker's result and give it the next task."""
        try:
            result, error = worker.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker, "crash")
            return
        if error is not None:
            raise error
        yield result
        worker.job = _Job(worker.job.task)
        job = self._next()
        if job is None:
            self._remove(worker)
        else:
            worker.job = job
            _send(worker)

    def _lose(self, worker: _Worker[TaskT], reason: str) -> None:
        """Do the job of a worker that died or stalls again: alone, then without the item."""
        index, _ = worker.place.read()
        self._remove(worker)
        job = worker.job
        if index < 0:
            job.attempts += 1
        elif index in job.suspects:
            job.bad[index] = reason
            job.suspects.discard(index)
        else:
            job.suspects.add(index)
        if job.attempts > ATTEMPTS:
            raise FledgeError(
                f"worker processes keep dying (exit code {worker.process.exitcode})",
                remedy="free memory or lower corpus.workers",
            )
        self._again.append(job)

    def _remove(self, worker: _Worker[TaskT]) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.process.kill()
        for worker in tuple(self._workers):
            self._remove(worker)


def _send(worker: _Worker[TaskT]) -> None:
    """Give a worker its job; one that has died is found out when its result is collected."""
    with suppress(BrokenPipeError, ConnectionResetError):
        worker.pipe.send((worker.job.task, worker.job.bad))


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """This thread sees no Ctrl-C until the block is done; processes started in it never do."""
    resource_tracker.ensure_running()  # would itself open the mask when it starts inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main(work: Callable[..., Any]) -> Iterator[None]:
    """Processes started in the block do not run the caller's script again, but to get ``work``.

    A script that reads documents at its top level, as examples do, would start processes without
    end.
    """
    main = sys.modules["__main__"]
    if work.__module__ != "__main__":
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(work: Work[TaskT, ResultT], pipe: Connection, place: Place) -> None:
    """The worker's loop; it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _alarm)
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
    """Within the block, OutOfTime is raised after ``seconds`` of processor time.

    Only in a worker's main thread.  Time in which the machine does something else (swapping,
    another program, a process stopped with Ctrl-Z) is no fault of the document and not counted.
    """

    seconds: float

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
