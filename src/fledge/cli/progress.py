"""Progress on stderr: bars with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from fledge.cli.progress_table import figure_line, figure_table
from fledge.cli.together import number_of_process
from fledge.core.protocols import Bar, Progress, Silent

_PLAIN_SECONDS = 10.0
"""Without a terminal a line is written this often."""


def terminal_progress() -> Progress:
    """Bars when stderr is a terminal, otherwise a line now and then; of several processes one."""
    if number_of_process() > 0:
        return Silent()
    console = Console(stderr=True, highlight=False)
    return _Bars(console) if console.is_terminal else _Lines()


def amount(value: float, unit: str) -> str:
    """A readable number: 1,234 pages; 1.23 M tokens; 4.5 MB."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scale = 1e3 if prefix == "k" else size
            return f"{value / scale:,.2f} {prefix}{unit}"
    return f"{value:,.0f} {unit}"


class _Rate(ProgressColumn):
    """Done of total, and units per second where no table tells them."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        done = amount(task.completed, unit)
        total = f" of {amount(task.total, unit)}" if task.total else ""
        told = not task.fields["table"]
        rate = f", {amount(task.speed, unit)}/s" if told and task.speed else ""
        return Text(done + total + rate)


class _Shown(RichProgress):
    """A bar with a table of figures below it, when there are any."""

    figures: Mapping[str, str] = {}

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.figures:
            yield figure_table(self.figures, self.console.width)


class _Bars:
    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        return self._bar(label, total, unit, done)

    @contextmanager
    def _bar(self, label: str, total: float | None, unit: str, done: float) -> Iterator[Bar]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=min(24, self._console.width // 5)),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with _Shown(*columns, console=self._console, speed_estimate_period=20) as shown:
            task = shown.add_task(label, total=total, unit=unit, note="", table=False)
            shown.update(task, completed=done)
            yield _RichBar(shown, task)


class _RichBar:
    def __init__(self, shown: _Shown, task: TaskID) -> None:
        self._shown = shown
        self._task = task

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._shown.advance(self._task, amount)
        if note and not self._shown.figures:
            self._shown.update(self._task, note=note)

    def table(self, values: Mapping[str, str]) -> None:
        if not self._shown.figures:
            self._shown.update(self._task, note="", table=True)
        self._shown.figures = values


class _Lines:
    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        return self._bar(label, total, unit, done)

    @contextmanager
    def _bar(self, label: str, total: float | None, unit: str, done: float) -> Iterator[Bar]:
        bar = _LineBar(label, total, unit, done)
        yield bar
        bar.show()


class _LineBar:
    def __init__(self, label: str, total: float | None, unit: str, done: float) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.note = ""
        self.figures: Mapping[str, str] = {}
        self.start = self.shown = time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note
        if time.monotonic() - self.shown >= _PLAIN_SECONDS:
            self.show()

    def table(self, values: Mapping[str, str]) -> None:
        self.figures = values

    def show(self) -> None:
        """One line: done of total, rate, time left, note."""
        self.shown = time.monotonic()
        rate = (self.done - self.first) / max(self.shown - self.start, 1e-9)
        line = f"{self.label}: {amount(self.done, self.unit)}"
        if self.total:
            left = (self.total - self.done) / rate if rate > 0 else 0.0
            line += f" of {amount(self.total, self.unit)}, {left:,.0f} s left"
        told = figure_line(self.figures) or f"{amount(rate, self.unit)}/s {self.note}".rstrip()
        print(f"{line}, {told}", file=sys.stderr)
        sys.stderr.flush()
