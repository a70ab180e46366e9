"""One stage outside a recipe: the same run_stage, in a folder of the user's choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from fledge.cli.progress import terminal_progress
from fledge.cli.runner import run_stage, working
from fledge.cli.stages import KINDS
from fledge.cli.together import company
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.recipe import apply_override
from fledge.core.run import StageFolder

Door = TypeVar("Door", bound=Callable[..., Any])


def stage_options(door: Door) -> Door:
    """``--out``, ``--set``, ``--force`` and ``--json`` of every stage's door."""
    return _stage_options(door, out_required=True)


def showing_options(door: Door) -> Door:
    """The same where an option prints examples instead, and needs no ``--out``."""
    return _stage_options(door, out_required=False)


def _stage_options(door: Door, *, out_required: bool) -> Door:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
        click.option("--force", is_flag=True, help="Do it again even when nothing changed."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE"),
        click.option("--out", type=click.Path(path_type=Path), required=out_required),
    ):
        door = option(door)
    return door


def folder_option(name: str, help_text: str) -> Callable[[Door], Door]:
    """A required option that names a folder of an earlier stage."""
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    return click.option(f"--{name}", type=kind, required=True, help=help_text)


def run_single(
    stage: str,
    folders: dict[str, Path],
    values: dict[str, Any],
    *,
    out: Path | None,
    overrides: Sequence[str],
    force: bool,
    as_json: bool,
) -> None:
    """Run ``stage`` into ``out``, reading ``folders``; ``values`` and ``overrides`` configure."""
    if out is None:
        raise InputError("--out is missing", remedy="name a folder for the trained model")
    for override in overrides:
        apply_override(values, override)
    config = parse_config(KINDS[stage], values, f"fledge {stage}")
    out = out.resolve()
    _check_out(out, [folder.resolve() for folder in folders.values()])
    place = StageFolder(out.parent, out.name)
    lock = out.parent / f".{out.name}.lock"
    with company(config) as processes, working(lock, processes):
        manifest = run_stage(
            stage,
            place,
            config,
            folders,
            terminal_progress(),
            again=force,
            processes=processes,
        )
    if as_json and processes.is_main:
        fields = ("stage", "seconds", "counts", "figures")
        click.echo(json.dumps({name: manifest[name] for name in fields}, ensure_ascii=False))


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    """Refuses an ``--out`` whose replacement would take the user's own files away."""
    if out.is_file():
        raise InputError(f"--out {out} is a file", remedy="name a folder")
    for path, what in [(Path.cwd(), "the folder you stand in"), *((p, "an input") for p in inputs)]:
        if path == out or out in path.parents:
            raise InputError(f"--out {out} holds {what} ({path})", remedy="name a new folder")
