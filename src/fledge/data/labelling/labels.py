"""Tasks and labels in; whose turn is which task out.  Pure.

A label is a line of JSON: {"task", "annotator", "kind", "ranking", "text", "note", "seconds",
"shown"}.  Of one annotator and one task the last line counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fledge.data.labelling.tasks import LabelTask

Kind = Literal["rank", "write", "skip", "undo"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Ranking = tuple[tuple[str, ...], ...]

LONGEST_NAME = 64
"""Characters of an annotator's name."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What one annotator made of one task.

    ``kind`` ``skip`` hands the task to others, ``undo`` takes the label back.
    """

    task: str
    annotator: str
    kind: Kind
    ranking: Ranking = ()
    """Ids of the answers, the best first; those of one group are equally good."""

    text: str = ""
    """The written answer."""

    note: str = ""
    seconds: float = 0.0
    """Since the task was shown."""

    shown: tuple[str, ...] = ()
    """Ids of the answers as they stood on the page."""


Labels = Mapping[tuple[str, str], Label]
"""(task, annotator) -> the label that counts."""


def label_row(label: Label) -> dict[str, Any]:
    """The label as a line of the log; what is empty is left out."""
    return {key: value for key, value in asdict(label).items() if value not in ("", ())}


def parse_label(row: Any) -> Label:
    """The label of a line; raises ValueError naming the field that is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a label must be a JSON object")
    for name in ("task", "annotator", "kind"):
        if not isinstance(row.get(name), str):
            raise ValueError(f"'{name}' must be text")
    if row["kind"] not in KINDS:
        raise ValueError(f"'kind' is {row['kind']!r}, not one of {', '.join(KINDS)}")
    seconds = row.get("seconds", 0.0)
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ValueError("'seconds' must be a number")
    try:
        ranking = tuple(tuple(map(str, group)) for group in row.get("ranking", ()))
        shown = tuple(map(str, row.get("shown", ())))
    except TypeError:
        raise ValueError("'ranking' must be a list of lists, 'shown' a list") from None
    return Label(
        task=row["task"],
        annotator=row["annotator"],
        kind=row["kind"],
        ranking=ranking,
        text=str(row.get("text", "")),
        note=str(row.get("note", "")),
        seconds=float(seconds),
        shown=shown,
    )


def checked_name(name: str) -> str:
    """An annotator's name without the white space around it; raises ValueError for no name."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters")
    return name


def check_label(label: Label, task: LabelTask) -> None:
    """Raises ValueError where the label does not go with its task."""
    if label.kind == "rank":
        ranked = [one for group in label.ranking for one in group]
        if sorted(ranked) != sorted(task.by_id) or not all(label.ranking) or not ranked:
            raise ValueError("'ranking' must name every answer of the task once, by its id")
    elif label.ranking:
        raise ValueError(f"a label of kind {label.kind} has no 'ranking'")
    if label.kind == "write" and task.answers:
        raise ValueError("the answers of this task are to be ranked, none is to be written")
    if (label.kind == "write") != bool(label.text.strip()):
        raise ValueError("'text' must hold the answer of a label of kind write, and of no other")


def counting(labels: Iterable[Label]) -> dict[tuple[str, str], Label]:
    """The labels that count: the last one of each annotator and task that is not taken back."""
    last: dict[tuple[str, str], Label] = {}
    for label in labels:
        apply_label(last, label)
    return last


def apply_label(labels: dict[tuple[str, str], Label], label: Label) -> None:
    """Let one more label replace, or take back, the annotator's earlier one."""
    labels.pop((label.task, label.annotator), None)
    if label.kind != "undo":
        labels[label.task, label.annotator] = label


def open_tasks(
    tasks: Sequence[LabelTask],
    labels: Labels,
    annotator: str,
    each: int,
    given_out: Iterable[str] = (),
) -> list[LabelTask]:
    """What is left for an annotator, the tasks with fewest labels first.

    Left are tasks that this one has neither done nor skipped and that fewer than ``each`` others
    have done.  ``given_out``, keys of tasks that others look at just now, come later.
    """
    done = Counter(task for (task, _), label in labels.items() if label.kind != "skip")
    busy = Counter(given_out)
    left = [task for task in tasks if (task.key, annotator) not in labels and done[task.key] < each]
    return sorted(left, key=lambda task: done[task.key] + busy[task.key])
