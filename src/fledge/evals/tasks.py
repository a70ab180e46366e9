"""A task is a set and its scorer; with a solver it becomes one row per question, then figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.protocols import Progress
from fledge.evals.dataset import Sample, choose, read_set
from fledge.evals.scorers import scorer_of
from fledge.evals.solvers import Answer, Solver
from fledge.metrics.intervals import wilson

Row = dict[str, Any]
"""A line of a per-sample file."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions to ask, under a name."""

    name: str
    samples: list[Sample]


def load_task(path: Path, *, limit: int | None = None, seed: int = 0) -> Task:
    """The task in a JSONL file, named after it, with at most ``limit`` questions."""
    return Task(name=path.stem, samples=choose(read_set(path), limit, seed))


def run_task(task: Task, solver: Solver, progress: Progress, label: str = "") -> list[Row]:
    """Ask every question of ``task`` and score the answers."""
    for sample in task.samples:
        scorer_of(sample)  # a set that cannot be scored is refused before it is asked
    with progress.bar(label or task.name, len(task.samples), "questions") as bar:
        answers = solver(task.samples, bar.advance)
    return [_row(*pair) for pair in zip(task.samples, answers, strict=True)]


def _row(sample: Sample, answer: Answer) -> Row:
    metric, scorer = scorer_of(sample)
    score = scorer(sample, answer.text)
    return {
        "id": sample.id,
        "language": sample.language,
        "attribute": sample.attribute,
        "question": sample.question,
        "target": sample.target,
        "answer": answer.text,
        "metric": metric,
        "correct": score.correct,
        "declined": score.declined,
        "tokens": answer.tokens,
        "finish_reason": answer.finish_reason,
    }


def share(hits: Iterable[bool]) -> dict[str, Any]:
    """``{"value", "ci95", "n"}`` of a share, with its Wilson interval."""
    counted = list(hits)
    low, high = wilson(sum(counted), len(counted))
    value = sum(counted) / len(counted) if counted else 0.0
    return {"value": round(value, 6), "ci95": [round(low, 6), round(high, 6)], "n": len(counted)}


def figures_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """``{"metric", "value", "ci95", "n"}``: one per metric of the rows.

    Answerable questions also give ``over_refusal``: the share of them that was declined.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["metric"]].append(row)
    found = [
        {"metric": metric, **share(row["correct"] for row in group)}
        for metric, group in groups.items()
    ]
    answerable = groups.get("exact_match", [])
    if answerable:
        found.append({"metric": "over_refusal", **share(row["declined"] for row in answerable)})
    return found


def breakdown(rows: Sequence[Row], key: str) -> dict[str, dict[str, Any]]:
    """The share of correct rows for each value of ``key``, sorted."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row["correct"])
    return {name: share(groups[name]) for name in sorted(groups) if name}
