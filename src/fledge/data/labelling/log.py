"""A folder of tasks and labels: every label is on the disk before it counts.

tasks.jsonl     the tasks of all files that were ever named; they stay
labels.jsonl    a line a label, only ever appended
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from fledge.core.errors import InputError
from fledge.core.files import write_jsonl
from fledge.data.labelling.labels import (
    Label,
    apply_label,
    check_label,
    counting,
    label_row,
    parse_label,
)
from fledge.data.labelling.tasks import LabelTask, gathered, read_tasks, task_row

TASKS, LABELS = "tasks.jsonl", "labels.jsonl"


class LabelLog:
    """The one writer of a folder; use it in a ``with`` block.  Safe among threads.

    Raises InputError when another process writes there.
    """

    def __init__(self, folder: Path, tasks: Iterable[LabelTask] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / LABELS).open("ab", buffering=0)
        try:
            self._take(folder)
            known = read_tasks([folder / TASKS]) if (folder / TASKS).exists() else []
            self.tasks = gathered([*known, *tasks])
            if len(self.tasks) > len(known):
                write_jsonl(folder / TASKS, map(task_row, self.tasks))
            self._labels = counting(read_labels(folder))
        except BaseException:
            self._file.close()
            raise
        self.by_key = {task.key: task for task in self.tasks}
        self._lock = threading.Lock()

    def _take(self, folder: Path) -> None:
        """Lock the log, and take away a last line that a kill cut off."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another fledge label writes in {folder}", remedy="stop it, or name another --out"
            ) from None
        whole = (folder / LABELS).read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)

    def add(self, label: Label) -> None:
        """Write a label; raises ValueError when it does not go with a task of the folder."""
        if label.task not in self.by_key:
            raise ValueError(f"there is no task {label.task!r}")
        check_label(label, self.by_key[label.task])
        line = json.dumps(label_row(label), ensure_ascii=False) + "\n"
        with self._lock:
            self._append(line.encode())
            apply_label(self._labels, label)

    @property
    def labels(self) -> dict[tuple[str, str], Label]:
        """The labels that count at this moment."""
        with self._lock:
            return dict(self._labels)

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError:  # half a line must not stay for the next label to end
            self._file.truncate(before)
            raise

    def __enter__(self) -> LabelLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_folder(folder: Path) -> tuple[list[LabelTask], dict[tuple[str, str], Label]]:
    """(tasks, the labels that count) of a folder that another process may be writing in."""
    if not (folder / TASKS).exists():
        raise InputError(
            f"{folder} holds no {TASKS}", remedy="name the --out of fledge label serve"
        )
    tasks = read_tasks([folder / TASKS])
    known = {task.key: task for task in tasks}
    labels = counting(read_labels(folder))
    for label in labels.values():
        try:
            check_label(label, known[label.task])
        except (KeyError, ValueError) as error:
            why = f"no task {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{folder / LABELS}: a label of {label.annotator!r} does not fit {TASKS}: {why}",
                remedy="put the file back as it was",
            ) from None
    return tasks, labels


def read_labels(folder: Path) -> Iterator[Label]:
    """The lines of the log but for a last one that is not yet whole; raises InputError."""
    path = folder / LABELS
    text = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
        try:
            yield parse_label(json.loads(line))
        except ValueError as error:
            raise InputError(
                f"{path}:{number}: not a label: {error}", remedy="remove that line"
            ) from None
