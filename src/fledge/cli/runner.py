"""A recipe in, its run directory out: skip what is done, continue what was killed, do the rest."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.cli.stage import Stage, Work
from fledge.cli.stages import STAGES
from fledge.cli.together import ALONE, Company, company
from fledge.core.config import Config, nearest
from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Progress
from fledge.core.recipe import Recipe
from fledge.core.run import Clock, Outcome, StageFolder, input_digest, stage_key


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
    steps = plan(recipe, selection)
    with company(*(step.config for step in steps)) as processes, working(run / ".lock", processes):
        return [_run_step(run, step, progress, processes) for step in steps]


def _run_step(run: Path, step: Step, progress: Progress, processes: Company) -> dict[str, Any]:
    return run_stage(
        step.name,
        StageFolder(run, step.name),
        step.config,
        {name: run / name for name in step.reads},
        progress,
        again=step.again,
        processes=processes,
    )


def run_stage(
    name: str,
    place: StageFolder,
    config: Config,
    folders: dict[str, Path],
    progress: Progress,
    *,
    again: bool = False,
    processes: Company = ALONE,
) -> dict[str, Any]:
    """One stage: skipped when it is done with the same key, otherwise begun or continued.

    ``folders`` and what the config names are its inputs.  Of several ``processes`` all run the
    stage if it works together, and the main one does the rest.
    """
    stage = STAGES[name]
    inputs = processes.first(lambda: _digests(stage, config, folders))
    manifest = processes.first(lambda: _begin(name, place, config, inputs, progress, again))
    if manifest is not None:
        return manifest
    work = Work(config=config, folders=folders, out=place.partial, progress=progress)
    clock = Clock()
    try:
        ours = stage.run(work) if stage.together else None
        return processes.first(
            lambda: _finish(name, place, config, inputs, ours or stage.run(work), clock, progress)
        )
    except BaseException:
        if processes.is_main and place.partial.is_dir():
            place.pause(clock.seconds())
        raise


def _digests(stage: Stage, config: Config, folders: dict[str, Path]) -> dict[str, str]:
    """What the stage reads, by name, as digests."""
    inputs = {name: input_digest(folder) for name, folder in folders.items()}
    return inputs | {str(path): input_digest(path) for path in stage.files(config)}


def _begin(
    name: str,
    place: StageFolder,
    config: Config,
    inputs: dict[str, str],
    progress: Progress,
    again: bool,
) -> dict[str, Any] | None:
    """The manifest of a stage that is done already; None when it is to run in ``partial``."""
    key = stage_key(name, config, inputs)
    place.recover()
    manifest = place.manifest()
    if manifest is not None and place.finished(key) and not again:
        progress.say(f"{place.name}: done before, unchanged ({manifest['seconds']:,.0f} s then)")
        return manifest
    going_on = place.resumable(key, forced=again)
    progress.say(f"{place.name}: {'going on where it stopped' if going_on else 'starting'}")
    place.begin(key, forced=again)
    return None


def _finish(
    name: str,
    place: StageFolder,
    config: Config,
    inputs: dict[str, str],
    outcome: Outcome,
    clock: Clock,
    progress: Progress,
) -> dict[str, Any]:
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


@contextmanager
def working(lock: Path, processes: Company) -> Iterator[None]:
    """Holds ``lock``, by the hand of the main process; makes its folder."""
    with ExitStack() as held:

        def take() -> None:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(lock))

        processes.first(take)
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
    folders = {name: run / name for name in step.reads}
    inputs = _digests(STAGES[step.name], step.config, folders)
    key = stage_key(step.name, step.config, inputs)
    if place.finished(key):
        return "done, unchanged"
    return "would go on where it stopped" if place.resumable(key) else "would run"
