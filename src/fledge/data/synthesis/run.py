"""Tasks and a way to do one in; a folder of rows out.  A killed run goes on where it was.

items.jsonl      {"key", "rows" or "unusable"} as tasks finish; {"key", "error"} is tried again
settings.json    what was asked for: another run does not mix with it
rows.jsonl       all rows in the order of the tasks, written at the end
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import read_json, write_json, write_jsonl
from fledge.core.protocols import Progress
from fledge.data.synthesis.asking import UnusableError

ITEMS, SETTINGS, ROWS = "items.jsonl", "settings.json", "rows.jsonl"

MOST_FAILURES = 20
"""Errors in a row after which the model is taken to be gone."""

Make = Callable[["Task"], list[dict[str, Any]]]
"""The rows of one task; raises UnusableError, or FledgeError when the model fails."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to make.  ``key`` names it among the tasks of a run; ``input`` is the method's."""

    key: str
    input: Any = None


T = TypeVar("T")


def drawn_inputs(inputs: Sequence[T], count: int, seed: int) -> list[T]:
    """At most ``count`` inputs, drawn by ``seed``, in their first order."""
    if len(inputs) <= count:
        return list(inputs)
    draw = random.Random(f"synthesis/{seed}")
    return [inputs[place] for place in sorted(draw.sample(range(len(inputs)), count))]


def numbered(tasks: Sequence[Task]) -> list[Task]:
    """The tasks with keys of their own: rows that hold several questions share an origin."""
    seen: dict[str, int] = {}
    found = []
    for task in tasks:
        seen[task.key] = seen.get(task.key, 0) + 1
        more = f"/{seen[task.key]}" if seen[task.key] > 1 else ""
        found.append(Task(key=f"{task.key}{more}", input=task.input))
    return found


@dataclass(kw_only=True)
class Made:
    """What a run made: rows by key, in the order of the tasks, and what became of the others."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unusable: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    last_error: str = ""

    def counts(self) -> dict[str, Any]:
        """``tasks``, ``rows``, ``unusable`` by reason, ``errors``."""
        return {
            "tasks": len(self.rows),
            "rows": sum(map(len, self.rows.values())),
            "unusable": dict(sorted(self.unusable.items())),
            "errors": self.errors,
        }


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run writes, and how many tasks it does at a time."""

    folder: Path
    settings: dict[str, Any]
    """What decides the result: a folder with other settings is refused."""

    parallel: int = 1


def produce(
    tasks: Sequence[Task],
    make: Make,
    place: Place,
    progress: Progress,
    accept: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Made:
    """Do all ``tasks`` that are not done yet and write their rows.

    ``accept`` hears the rows of each finished task in order, those of an earlier run included: for
    methods whose tasks build on each other.  Raises FledgeError when the model keeps failing.
    """
    _open(place)
    done = dict(_finished(place.folder / ITEMS))
    made = Made()
    with (
        (place.folder / ITEMS).open("a", encoding="utf-8") as log,
        progress.bar("tasks", len(tasks), "tasks", done=sum(t.key in done for t in tasks)) as bar,
    ):
        failures = 0
        for task, outcome, fresh in _outcomes(tasks, make, done, place.parallel):
            if fresh:
                _append(log, {"key": task.key, **outcome})
                bar.advance(note=f"{made.errors} errors" if made.errors else "")
            failures = failures + 1 if "error" in outcome else 0
            _count(made, task, outcome)
            if failures == MOST_FAILURES:
                raise FledgeError(
                    f"{failures} tasks in a row failed, the last: {made.last_error}",
                    remedy="check the model; the same command goes on",
                )
            if accept is not None:
                accept(outcome.get("rows", []))
    write_jsonl(place.folder / ROWS, (row for rows in made.rows.values() for row in rows))
    return made


def _open(place: Place) -> None:
    """Make the folder, or check that it belongs to a run with the same settings."""
    path = place.folder / SETTINGS
    if path.exists():
        former = read_json(path)
        known = former if isinstance(former, dict) else {}
        other = [key for key in place.settings if known.get(key) != place.settings[key]]
        if other:
            key = other[0]
            raise InputError(
                f"{place.folder} holds a run with another {key}: {known.get(key)!r}, "
                f"not {place.settings[key]!r}",
                remedy="name another folder",
            )
        return
    place.folder.mkdir(parents=True, exist_ok=True)
    if (place.folder / ITEMS).exists():
        raise InputError(f"{place.folder} holds items of unknown settings", remedy="name another")
    write_json(path, place.settings)


def _finished(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, outcome) of the finished tasks; a last line that a kill cut off is taken away."""
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        with path.open("r+b") as handle:
            handle.truncate(len(whole))
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            key = row.pop("key")
        except (ValueError, KeyError, AttributeError):
            raise InputError(f"{path}:{number}: not an item", remedy="remove that line") from None
        if "error" not in row:
            yield key, row


def _append(log: IO[str], row: dict[str, Any]) -> None:
    log.write(json.dumps(row, ensure_ascii=False) + "\n")
    log.flush()


def _count(made: Made, task: Task, outcome: dict[str, Any]) -> None:
    made.rows[task.key] = outcome.get("rows", [])
    if "unusable" in outcome:
        made.unusable[outcome["unusable"]] += 1
    if "error" in outcome:
        made.errors += 1
        made.last_error = outcome["error"]


Outcome = tuple[Task, dict[str, Any], bool]


def _outcomes(
    tasks: Iterable[Task], make: Make, done: dict[str, dict[str, Any]], parallel: int
) -> Iterator[Outcome]:
    """(task, what became of it, whether just now), in the order of the tasks.

    At most ``parallel`` tasks are on their way at a time.
    """
    if parallel == 1:
        for task in tasks:
            known = done.get(task.key)
            yield task, known or _attempt(task, make), known is None
        return
    with ThreadPoolExecutor(parallel) as pool:
        waiting: list[tuple[Task, Future[dict[str, Any]]]] = []
        for task in tasks:
            if task.key in done:
                yield task, done[task.key], False
                continue
            waiting.append((task, pool.submit(_attempt, task, make)))
            if len(waiting) >= 2 * parallel:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _first(waiting: list[tuple[Task, Future[dict[str, Any]]]]) -> Outcome:
    task, future = waiting.pop(0)
    wait([future])
    return task, future.result(), True


def _attempt(task: Task, make: Make) -> dict[str, Any]:
    """``rows``, ``unusable`` with its reason, or ``error`` in words."""
    try:
        return {"rows": make(task)}
    except UnusableError as error:
        return {"unusable": str(error)}
    except FledgeError as error:
        return {"error": str(error)}
