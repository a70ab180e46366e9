"""Sources in, what came of each out, in the same order; hostile formats in other processes."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fledge.core.protocols import Progress, Silent
from fledge.core.run import usable_cores
from fledge.data.pool import OutOfTime, Place, limited, run_tasks
from fledge.index.load.blob import Blob
from fledge.index.load.config import LoadConfig
from fledge.index.load.discovery import discover
from fledge.index.load.formats import HARMLESS
from fledge.index.load.parsing import parse, refused
from fledge.index.load.sniff import format_of
from fledge.index.load.source import Parsed, Source
from fledge.index.loaded import Loaded, Unreadable

_LOST = {
    "crash": ("crashed", "a process that read it died, twice"),
    "timeout": ("timeout", "a process that read it did not move, twice"),
}


_Outcome = tuple[str, tuple[Loaded | Unreadable, ...]]
"""Digest and items of a ``Parsed``: its source need not come back through the pipe."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A source for another process; ``number`` is its place in the order."""

    number: int
    source: Source
    config: LoadConfig


def parse_all(sources: Iterable[Source], config: LoadConfig | None = None) -> Iterator[Parsed]:
    """What came of each source, in order.

    Text is read here.  All other formats are read in processes of their own, with limits on time
    and memory: a file that crashes or stalls its parser is reported like any other that cannot be
    read.  What is done early waits for its turn, so memory holds the documents of a few sources.
    """
    config = config or LoadConfig()
    remaining = iter(sources)
    for source in remaining:  # processes start with the first source that needs one
        if _is_harmless(source):
            yield parse(source, config)
        else:
            yield from _in_processes(itertools.chain([source], remaining), config)


def _in_processes(sources: Iterator[Source], config: LoadConfig) -> Iterator[Parsed]:
    waiting: deque[tuple[int, Source]] = deque()
    done: dict[int, _Outcome] = {}
    elsewhere: set[int] = set()

    def tasks() -> Iterator[_Task]:
        for number, source in enumerate(sources):
            waiting.append((number, source))
            if not _is_harmless(source):
                elsewhere.add(number)
                yield _Task(number=number, source=source, config=config)

    def ready() -> Iterator[Parsed]:
        while waiting and (waiting[0][0] in done or waiting[0][0] not in elsewhere):
            number, source = waiting.popleft()
            if number in elsewhere:
                digest, items = done.pop(number)
                yield Parsed(source=source, digest=digest, items=items)
            else:
                yield parse(source, config)

    workers = config.workers or usable_cores()
    for number, outcome in run_tasks(_work, tasks(), workers, config.limits.seconds):
        done[number] = outcome
        yield from ready()
    yield from ready()


def _is_harmless(source: Source) -> bool:
    content = source.content if source.content is not None else source.file
    assert content is not None
    try:
        found = format_of(Blob(id="", path="", name=source.name, content=content))
    except OSError:
        return True  # parse says why
    return found in HARMLESS


def _work(task: _Task, bad: dict[int, str], place: Place) -> tuple[int, _Outcome]:
    """What a process does; ``bad`` tells that others died of this source."""
    if bad:
        parsed = refused(task.source, *_LOST[bad[0]])
        return task.number, (parsed.digest, parsed.items)
    limits = task.config.limits
    _bound_memory(limits.memory_bytes)
    place.enter(0)
    try:
        with limited(limits.seconds):
            parsed = parse(task.source, task.config)
    except OutOfTime:
        evidence = f"it takes more than limits.seconds = {limits.seconds:g}"
        parsed = refused(task.source, "timeout", evidence)
    except MemoryError:
        evidence = f"it takes more than limits.memory_bytes = {limits.memory_bytes:,}"
        parsed = refused(task.source, "memory", evidence)
    return task.number, (parsed.digest, parsed.items)


def _bound_memory(size: int) -> None:
    """No more address space than ``size`` bytes, where the system can say so."""
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read(
    inputs: Sequence[str], config: LoadConfig | None = None, progress: Progress | None = None
) -> Iterator[Loaded | Unreadable]:
    """All documents that ``inputs`` name, and what cannot be read."""
    config = config or LoadConfig()
    left_out: list[Unreadable] = []

    def sources() -> Iterator[Source]:
        for item in discover(inputs, config):
            if isinstance(item, Source):
                yield item
            else:
                left_out.append(item)

    with (progress or Silent()).bar("reading", None, "files") as bar:
        for parsed in parse_all(sources(), config):
            yield from left_out
            left_out.clear()
            yield from parsed.items
            bar.advance(1, parsed.source.path)
    yield from left_out
