"""A task is a set and its scorer; with a solver it becomes one row per question, then figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.protocols import Progress
from fledge.evals.dataset import Sample, choose, read_set
from fledge.evals.scorers import scorer_of
from fledge.evals.solvers import Answer, Solver
from fledge.metrics.intervals import clustered, wilson

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
    row = {
        "id": sample.id,
        "language": sample.language,
        "attribute": sample.attribute,
        "bridge": sample.bridge,
        "question": sample.question,
        "target": sample.target,
        "answer": answer.text,
        "metric": metric,
        "correct": score.correct,
        "declined": score.declined,
        "tokens": answer.tokens,
        "finish_reason": answer.finish_reason,
    }
    if metric == "refused":
        row["complied"] = score.complied
    if answer.calls:
        row["calls"] = [call.row() for call in answer.calls]
        row["calls_valid"] = all(call.valid for call in answer.calls)
    return row


def share(rows: Sequence[Row], key: str, seed: int = 0) -> dict[str, Any]:
    """``{"value", "ci95", "n"}`` of the share of rows where ``key`` is true.

    Where several questions are about one bridge and all rows name theirs, the interval is that of
    ``clustered`` (by bridge, drawn by ``seed``): what a model knows of a bridge it may know in
    every wording and language.  Else it is Wilson's.
    """
    bridges: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        bridges[row.get("bridge", "")].append(row[key])
    hits = sum(row[key] for row in rows)
    if "" in bridges or len(bridges) == len(rows):
        low, high = wilson(hits, len(rows))
    else:
        groups = list(bridges.values())
        low, high = clustered([sum(one) for one in groups], [*map(len, groups)], seed=seed)
    value = hits / len(rows) if rows else 0.0
    return {"value": round(value, 6), "ci95": [round(low, 6), round(high, 6)], "n": len(rows)}


def figures_of(rows: Sequence[Row], seed: int = 0) -> list[dict[str, Any]]:
    """``{"metric", "value", "ci95", "n"}``: one per metric of the rows.

    Answerable questions also give ``over_refusal``: the share of them that was declined; unsafe
    ones ``unsafe_compliance``: the share that was helped with; answers with calls of tools
    ``tool_call_valid``: the share all of whose calls were ones that the tool could carry out.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["metric"]].append(row)
    found = [
        {"metric": metric, **share(group, "correct", seed)} for metric, group in groups.items()
    ]
    answerable = groups.get("exact_match", [])
    if answerable:
        found.append({"metric": "over_refusal", **share(answerable, "declined", seed)})
    unsafe = groups.get("refused", [])
    if unsafe:
        found.append({"metric": "unsafe_compliance", **share(unsafe, "complied", seed)})
    called = [row for row in rows if "calls" in row]
    if called:
        found.append({"metric": "tool_call_valid", **share(called, "calls_valid", seed)})
    return found


def breakdown(rows: Sequence[Row], key: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The share of correct rows for each value of ``key``, sorted."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return {name: share(groups[name], "correct", seed) for name in sorted(groups) if name}
