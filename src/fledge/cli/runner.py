"""A recipe in, its run directory out: skip what is done, continue what was killed, do the rest."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.cli.stages import STAGES, Work
from fledge.core.config import Config, nearest
from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Progress
from fledge.core.recipe import Recipe
from fledge.core.run import Clock, StageFolder, input_digest, stage_key


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which stages to run: from ``first`` (done again) to ``until``; ``force``: all again."""

    first: str | None = None
    until: str | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage of a recipe and what will be done about it."""

    name: str
    config: Config
    reads: tuple[str, ...]
    again: bool


def plan(recipe: Recipe, selection: Selection) -> list[Step]:
    """The steps in running order; raises InputError for a stage the recipe lacks."""
    names = [name for name in STAGES if name in recipe.stages]
    for option, stage in (("--from", selection.first), ("--until", selection.until)):
        if stage is not None and stage not in names:
            raise InputError(f"{option} {stage}: no such stage", remedy=nearest(stage, names))
    start = names.index(selection.first) if selection.first else len(names)
    end = names.index(selection.until) + 1 if selection.until else len(names)
    return [
        Step(
            name=name,
            config=recipe.stages[name],
            reads=tuple(other for other in STAGES[name].reads if other in names),
            again=selection.force or position >= start,
        )
        for position, name in enumerate(names[:end])
    ]


def run_recipe(
    recipe: Recipe, runs: Path, selection: Selection, progress: Progress
) -> list[dict[str, Any]]:
    """Run the recipe's steps in ``runs/<name>/``; returns the manifests in order."""
    run = runs / recipe.name
    run.mkdir(parents=True, exist_ok=True)
    with locked(run / ".lock"):
        return [_run_step(run, step, progress) for step in plan(recipe, selection)]


def _run_step(run: Path, step: Step, progress: Progress) -> dict[str, Any]:
    inputs = {name: input_digest(run / name) for name in step.reads}
    inputs |= {str(path): input_digest(path) for path in STAGES[step.name].files(step.config)}
    return run_stage(
        step.name,
        StageFolder(run, step.name),
        step.config,
        {name: run / name for name in step.reads},
        inputs,
        progress,
        again=step.again,
    )


def run_stage(
    name: str,
    place: StageFolder,
    config: Config,
    folders: dict[str, Path],
    inputs: dict[str, str],
    progress: Progress,
    *,
    again: bool = False,
) -> dict[str, Any]:
    """One stage: skipped when it is done with the same key, otherwise begun or continued."""
    key = stage_key(name, config, inputs)
    place.recover()
    manifest = place.manifest()
    if manifest is not None and place.finished(key) and not again:
        progress.say(f"{place.name}: done before, unchanged ({manifest['seconds']:,.0f} s then)")
        return manifest
    going_on = place.resumable(key, forced=again)
    progress.say(f"{place.name}: {'going on where it stopped' if going_on else 'starting'}")
    out = place.begin(key, forced=again)
    clock = Clock()
    try:
        work = Work(config=config, folders=folders, out=out, progress=progress)
        outcome = STAGES[name].run(work)
    except BaseException:
        place.pause(clock.seconds())
        raise
    manifest = place.finish(name, config, inputs, outcome, clock.seconds())
    progress.say(f"{place.name}: done in {manifest['seconds']:,.0f} s{_summary(manifest)}")
    return manifest


def _summary(manifest: dict[str, Any]) -> str:
    counts = [f"{value:,} {name.replace('_', ' ')}" for name, value in manifest["counts"].items()]
    return f" ({', '.join(counts[:6])})" if counts else ""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps a second process out while the block runs; ``path`` is the file that is locked."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FledgeError(
                f"another fledge is working in {path.parent}",
                remedy="wait for it, or name another folder",
            ) from None
        yield


def describe(recipe: Recipe, runs: Path, selection: Selection) -> Sequence[tuple[str, str]]:
    """(stage, what would happen) for --dry-run, without running or writing anything."""
    run = runs / recipe.name
    rows = []
    stale = False
    for step in plan(recipe, selection):
        place = StageFolder(run, step.name)
        state = "would run"
        if not stale and not step.again:
            state = _state(run, place, step)
        stale = stale or state != "done, unchanged"
        rows.append((step.name, state))
    return rows


def _state(run: Path, place: StageFolder, step: Step) -> str:
    inputs = {name: input_digest(run / name) for name in step.reads}
    inputs |= {str(path): input_digest(path) for path in STAGES[step.name].files(step.config)}
    key = stage_key(step.name, step.config, inputs)
    if place.finished(key):
        return "done, unchanged"
    return "would go on where it stopped" if place.resumable(key) else "would run"
