"""``fledge eval``: a model on tasks (sets of questions) or on texts (bits per byte)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fledge.cli.progress import terminal_progress
from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.files import read_json, write_jsonl
from fledge.core.protocols import Progress

if TYPE_CHECKING:
    from fledge.evals.solvers import Solver

LEVELS = 3
"""A model's folder, its stage and its run: where a run's own sets are looked for."""


@click.command("eval")
@click.option("--model", required=True, metavar="DIR|URL", help="A run, stage or model folder.")
@click.option("--task", "tasks", multiple=True, metavar="NAME|FILE...", help="A set of questions.")
@click.option("--text", "texts", multiple=True, metavar="FILE...", help="Texts to read whole.")
@click.option("--limit", type=click.IntRange(min=1), help="Ask at most this many of a set.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=96, show_default=True)
@click.option("--stride", type=click.IntRange(min=1), help="Tokens; default: half the context.")
@click.option(
    "--form",
    type=click.Choice(["auto", "chat", "plain"]),
    default="auto",
    help="Ask as a chat, or in plain text as a model that never chatted (auto: pretrain).",
)
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Carry out calls: calculator.")
@click.option("--samples", type=click.Path(path_type=Path), help="Write every answer here (JSONL).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
@click.argument("more", nargs=-1, metavar="")
def command(
    model: str,
    tasks: tuple[str, ...],
    texts: tuple[str, ...],
    limit: int | None,
    max_new_tokens: int,
    stride: int | None,
    form: str,
    tools: tuple[str, ...],
    samples: Path | None,
    as_json: bool,
    more: tuple[str, ...],
) -> None:
    """Measure a model: ``--task NAME|FILE...`` or ``--text FILE...``.

    A task is a JSONL file of questions, or the name of a set of the run the model belongs to.
    """
    if bool(tasks) == bool(texts):
        raise InputError("fledge eval needs either --task or --text", remedy="name one of them")
    if texts and tools:
        raise InputError("--tool needs --task: texts are read, not asked", remedy="leave it away")
    progress = terminal_progress()
    if texts:
        rows = _texts(model, [Path(name) for name in (*texts, *more)], stride, progress)
    else:
        paths = [find_set(model, name) for name in (*tasks, *more)]
        solver = _solver(model, form, max_new_tokens, tools)
        rows = _tasks(paths, solver, limit, samples, progress)
    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=False) if as_json else _line(row))


def _texts(
    model: str, files: Sequence[Path], stride: int | None, progress: Progress
) -> list[dict[str, Any]]:
    from fledge.engine.loading import load_engine
    from fledge.evals.text import evaluate_text

    if "://" in model:
        raise InputError("--text needs a model on disk", remedy="a server does not score texts")
    for file in files:
        if not file.is_file():
            raise InputError(f"--text {file}: no such file", remedy="check the path")
    return evaluate_text(load_engine(model), files, stride=stride, progress=progress)


def _tasks(
    paths: Sequence[Path],
    solver: Solver,
    limit: int | None,
    samples: Path | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    from fledge.evals.tasks import figures_of, load_task, run_task

    figures: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for path in paths:
        task = load_task(path, limit=limit)
        rows = run_task(task, solver, progress)
        figures += [{"task": task.name, **figure} for figure in figures_of(rows)]
        answers += [{"task": task.name, **row} for row in rows]
    if samples is not None:
        write_jsonl(samples, answers)
    return figures


def _solver(model: str, form: str, max_new_tokens: int, tools: Sequence[str]) -> Solver:
    """How ``model`` is asked: over the wire, or by the engine as a chat (that may call tools) or in
    plain text."""
    from fledge.client.open import is_url, open_model
    from fledge.evals.solvers import chat_solver, plain_solver, remote_solver

    if is_url(model):
        for option, given in (("--form plain", form == "plain"), ("--tool", bool(tools))):
            if given:
                raise InputError(f"{option} needs a model on disk", remedy=f"leave {option} away")
        return remote_solver(open_model(model), max_new_tokens)
    from fledge.engine.loading import load_engine
    from fledge.evals.tool_solver import tool_solver
    from fledge.model.gguf.magic import is_gguf
    from fledge.model.locate import find_checkpoint
    from fledge.tune.tool_turns import find_tools

    found = find_tools(tools)
    folder = Path(model) if is_gguf(model) else find_checkpoint(model)
    if form == "plain" or (form == "auto" and _stage_of(folder) == "pretrain"):
        if found:
            raise InputError("a model asked in plain text calls no tool", remedy="--form chat")
        return plain_solver(load_engine(folder), max_new_tokens)
    if found:
        return tool_solver(load_engine(folder), list(found.values()), max_new_tokens)
    return chat_solver(load_engine(folder), max_new_tokens)


def _stage_of(folder: Path) -> str:
    """The stage that made the checkpoint in ``folder``, as its manifest says; or empty."""
    manifest = folder.resolve().parent / "manifest.json"
    return str(read_json(manifest).get("stage", "")) if manifest.is_file() else ""


def find_set(model: str, name: str) -> Path:
    """The JSONL file of a task: a path, or a set of the run that ``model`` belongs to."""
    path = Path(name)
    if path.is_file():
        return path
    known: dict[str, Path] = {}
    place = Path(model).resolve()
    for folder in (place, *place.parents[: LEVELS - 1]):
        sets = sorted((folder / "samples" / "evals").glob("*.jsonl"))
        known = known or {found.stem: found for found in sets}
    if name in known:
        return known[name]
    if known:
        raise InputError(f"--task {name}: no such set or file", remedy=nearest(name, list(known)))
    raise InputError(
        f"--task {name}: no such file, and no run with sets of its own around {model}",
        remedy="name a JSONL file with input and target",
    )


def _line(row: dict[str, Any]) -> str:
    """A row for people."""
    if "path" in row:
        return (
            f"{row['bits_per_byte']:.4f} bits per byte  {row['bytes']:>12,} bytes"
            f"  {row['tokens']:>12,} tokens  {row['path']}"
        )
    low, high = row["ci95"]
    return (
        f"{row['task']:<20} {row['metric']:<14} {row['value']:>7.1%}"
        f"  [{low:.1%}, {high:.1%}]  n = {row['n']:,}"
    )
