"""The ladder: every rung of a run (base, SFT, honesty, ...) answers the same questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fledge.core.files import read_jsonl, write_json, write_jsonl
from fledge.core.protocols import Progress, Tool
from fledge.core.run import Outcome
from fledge.engine.engine import Engine
from fledge.engine.loading import load_engine
from fledge.evals.config import EvalsConfig
from fledge.evals.solvers import Solver, chat_solver, plain_solver
from fledge.evals.tasks import Row, breakdown, figures_of, load_task, run_task, share
from fledge.evals.tool_solver import tool_solver
from fledge.evals.validation import has_validation, score_documents, summarise_documents
from fledge.evals.win_rate import PairJudge, by_rule, win_rate

BASE = "pretrain"
"""The stage whose model never saw a chat: called "base" and asked in plain text."""

CHINESE = ("facts_zh_hans", "facts_zh_hant")


Rows = dict[str, list[Row]]
"""Set -> its rows."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the rungs are measured with; what is missing is not measured."""

    sets: Path | None = None
    """A folder of evaluation sets (``<name>.jsonl``)."""
    tokens: Path | None = None
    """A folder of token shards."""
    tools: Sequence[Tool] = ()
    """Tools that models which chat may call."""
    judges: Mapping[str, PairJudge] = field(default_factory=dict)
    """Who judges a rung against the one before, besides the rule: name -> judge."""


class _Rung:
    """One model of the ladder; its engine is loaded when there is something left to ask."""

    def __init__(self, stage: str, folder: Path, out: Path) -> None:
        self.stage, self.folder = stage, folder
        self.name = rung_name(stage)
        self.out = out / self.name
        self.form = "plain" if stage == BASE else "chat"

    @cached_property
    def engine(self) -> Engine:
        return load_engine(self.folder)

    def rows(self, name: str, make: Callable[[], list[Row]]) -> list[Row]:
        """The rows of ``<name>.jsonl``, made now unless a killed run left them behind."""
        path = self.out / f"{name}.jsonl"
        if not path.is_file():
            write_jsonl(path, make())
        return list(read_jsonl(path))


def rung_name(stage: str) -> str:
    """What figures call the model of a stage."""
    return "base" if stage == BASE else stage


def evaluate_ladder(
    config: EvalsConfig,
    rungs: Mapping[str, Path],
    sources: Sources,
    out: Path,
    progress: Progress,
) -> Outcome:
    """Measure the models of ``rungs`` (stage name -> folder, lowest first) on the same questions.

    Writes ``<rung>/<set>.jsonl`` (a line per question), ``<rung>/bits_per_byte.jsonl`` (a line
    per document) and ``summary.json``.  Decoding is greedy; a set that is finished is not asked
    again when a killed run goes on.
    """
    summary: list[dict[str, Any]] = []
    before: Rows = {}
    for stage, folder in rungs.items():
        rung = _Rung(stage, folder, out)
        tasks = _bits_per_byte(rung, config, sources.tokens, progress)
        rows = _ask(rung, config, sources, progress)
        tasks |= _summaries(rows, config.seed)
        if before:
            tasks |= _win_rates(rows, before, config, sources.judges)
        before = rows
        summary.append({"rung": rung.name, "stage": stage, "form": rung.form, "tasks": tasks})
        progress.say(f"{rung.name}: {_headline(tasks)}")
    write_json(out / "summary.json", {"rungs": summary})
    return Outcome(counts=_counts(summary), figures=_figures(summary))


def _bits_per_byte(
    rung: _Rung, config: EvalsConfig, tokens: Path | None, progress: Progress
) -> dict[str, Any]:
    if tokens is None or not has_validation(tokens):
        return {}
    rows = rung.rows(
        "bits_per_byte",
        lambda: score_documents(
            rung.engine, config, tokens, progress, f"{rung.name}: held-out text"
        ),
    )
    return {"bits_per_byte": summarise_documents(rows, config.seed)} if rows else {}


def _ask(rung: _Rung, config: EvalsConfig, sources: Sources, progress: Progress) -> Rows:
    """The rows of every set of questions."""
    paths = sorted(sources.sets.glob("*.jsonl")) if sources.sets else []
    return {
        path.stem: rung.rows(path.stem, _asking(rung, config, path, sources, progress))
        for path in paths
    }


def _asking(
    rung: _Rung, config: EvalsConfig, path: Path, sources: Sources, progress: Progress
) -> Callable[[], list[Row]]:
    def ask() -> list[Row]:
        task = load_task(path, limit=config.limit, seed=config.seed)
        return run_task(task, _solver(rung, config, sources), progress, f"{rung.name}: {task.name}")

    return ask


def _solver(rung: _Rung, config: EvalsConfig, sources: Sources) -> Solver:
    """How a rung is asked: in plain text, as a chat, or as a chat that may call tools."""
    if rung.form == "plain":
        return plain_solver(rung.engine, config.max_new_tokens)
    if not sources.tools:
        return chat_solver(rung.engine, config.max_new_tokens)
    return tool_solver(
        rung.engine,
        sources.tools,
        config.max_new_tokens,
        rounds=config.tool_rounds,
        listed=config.list_tools,
    )


def _summaries(rows: Mapping[str, Sequence[Row]], seed: int) -> dict[str, Any]:
    """The figures of every set, and what follows from several of them together."""
    tasks: dict[str, Any] = {name: _task_summary(found, seed) for name, found in rows.items()}
    facts = [row for name, found in rows.items() if name.startswith("facts_") for row in found]
    if facts:
        tasks["over_refusal"] = {"metric": "over_refusal", **share(facts, "declined", seed)}
    scripts = {name: tasks[name] for name in CHINESE if name in tasks}
    if scripts:
        lower = min(scripts, key=lambda name: scripts[name]["value"])
        figure = {key: scripts[lower][key] for key in ("metric", "value", "ci95", "n")}
        tasks["facts_zh"] = {**figure, "lower_of": list(scripts), "is": lower}
    for found in rows.values():
        for figure in figures_of(found, seed):
            if figure["metric"] == "unsafe_compliance":
                tasks[figure["metric"]] = figure
    called = [row for found in rows.values() for row in found if "calls" in row]
    if called:  # of all sets together: a call may come where none was asked for
        tasks["tool_call_valid"] = {
            "metric": "tool_call_valid",
            **share(called, "calls_valid", seed),
        }
    return tasks


def _win_rates(
    rows: Rows, before: Rows, config: EvalsConfig, judges: Mapping[str, PairJudge]
) -> dict[str, Any]:
    """``win_rate`` by rule, and ``win_rate_<name>`` by each of ``judges``."""
    every = {"win_rate": by_rule, **{f"win_rate_{name}": one for name, one in judges.items()}}
    found = {
        name: win_rate(rows, before, judge, limit=config.pairs, seed=config.seed)
        for name, judge in every.items()
    }
    return {name: figure for name, figure in found.items() if figure}


def _task_summary(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """The figure of a set, by attribute and language, and how answers ended."""
    reasons = [row["finish_reason"] for row in rows]
    return {
        **figures_of(rows, seed)[0],
        "declined": sum(row["declined"] for row in rows),
        "finish_reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "by_attribute": breakdown(rows, "attribute", seed),
        "by_language": breakdown(rows, "language", seed),
    }


def _counts(summary: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    tasks = [task for rung in summary for task in rung["tasks"].values()]
    return {
        "rungs": len(summary),
        "questions": sum(task["n"] for task in tasks if "by_attribute" in task),
        "documents": sum(task["n"] for task in tasks if task["metric"] == "bits_per_byte"),
    }


def _figures(summary: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"{rung['rung']}.{name}": task["value"]
        for rung in summary
        for name, task in rung["tasks"].items()
    }


def _headline(tasks: Mapping[str, Any]) -> str:
    """The figures of a rung in one line."""
    return ", ".join(
        f"{name} {task['value']:.3f}" if name == "bits_per_byte" else f"{name} {task['value']:.1%}"
        for name, task in tasks.items()
    )
