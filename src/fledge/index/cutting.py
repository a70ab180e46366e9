"""Loaded documents in, their chunks and terms out; many of them in processes of their own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from fledge.core.errors import FledgeError
from fledge.core.run import usable_cores
from fledge.data.pool import Place, run_tasks
from fledge.index.chunk import Chunk
from fledge.index.load.source import Parsed
from fledge.index.loaded import Loaded, Unreadable
from fledge.index.split.config import SplitConfig
from fledge.index.split.splitting import split
from fledge.index.terms import terms

MANY = 400
"""Sources from which on processes are worth their start."""
CHARACTERS = 200_000
"""Text of a task."""
PATIENCE_SECONDS = 600.0
"""What one document may take in another process."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A document's chunks, the terms of those of level 0, and the seconds both took."""

    chunks: tuple[Chunk, ...]
    terms: tuple[tuple[str, ...], ...]
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Sliced:
    """A source with what came of each of its documents, in their order."""

    parsed: Parsed
    cuts: list[Cut | Unreadable]


@dataclass(frozen=True, kw_only=True)
class _Task:
    number: int
    documents: list[Loaded]
    config: SplitConfig


def cut_all(
    parsed: Iterable[Parsed], config: SplitConfig, embedder: Any, expected: int
) -> Iterator[Sliced]:
    """Every source with its documents cut, in order.

    ``embedder``: for the strategy "semantic", which stays in this process, as do few sources
    (``expected``) and all on a machine of one core.
    """
    workers = usable_cores()
    if expected < MANY or workers < 2 or config.strategy == "semantic":
        for each in parsed:
            yield Sliced(each, [cut(loaded, config, embedder) for loaded in each.documents])
    else:
        yield from _in_processes(parsed, config, workers)


def cut(loaded: Loaded, config: SplitConfig, embedder: Any = None) -> Cut | Unreadable:
    """A document's chunks and terms, or why it cannot be cut."""
    begun = time.perf_counter()
    try:
        chunks = split(loaded, config, embedder=embedder)
        text = loaded.document.text
        between = time.perf_counter()
        found = tuple(tuple(terms(text[c.start : c.end])) for c in chunks if c.level == 0)
    except FledgeError:
        raise  # not this document's fault
    except Exception as error:
        evidence = f"{type(error).__name__}: {error}"
        return Unreadable(path=loaded.path, reason="split_failed", evidence=evidence)
    seconds = (between - begun, time.perf_counter() - between)
    return Cut(chunks=chunks, terms=found, seconds=seconds)


def _in_processes(parsed: Iterable[Parsed], config: SplitConfig, workers: int) -> Iterator[Sliced]:
    waiting: deque[list[Parsed]] = deque()
    done: dict[int, list[Cut | Unreadable]] = {}
    given = 0

    def tasks() -> Iterator[_Task]:
        for number, group in enumerate(_groups(parsed)):
            waiting.append(group)
            documents = [replace(one, boxes=()) for each in group for one in each.documents]
            yield _Task(number=number, documents=documents, config=config)

    for number, cuts in run_tasks(_work, tasks(), workers, PATIENCE_SECONDS):
        done[number] = cuts
        while given in done:
            found = iter(done.pop(given))
            for each in waiting.popleft():
                yield Sliced(each, [next(found) for _ in each.documents])
            given += 1


def _groups(parsed: Iterable[Parsed]) -> Iterator[list[Parsed]]:
    """Sources in groups of some size."""
    group: list[Parsed] = []
    size = 0
    for each in parsed:
        group.append(each)
        size += sum(len(loaded.document.text) for loaded in each.documents)
        if size >= CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _work(task: _Task, bad: dict[int, str], place: Place) -> tuple[int, list[Cut | Unreadable]]:
    """What a process does; ``bad`` tells at which documents others died."""
    cuts: list[Cut | Unreadable] = []
    for at, loaded in enumerate(task.documents):
        if at in bad:
            evidence = f"a process that cut it ended twice ({bad[at]})"
            cuts.append(Unreadable(path=loaded.path, reason="split_failed", evidence=evidence))
            continue
        place.enter(at)
        cuts.append(cut(loaded, task.config))
    return task.number, cuts
