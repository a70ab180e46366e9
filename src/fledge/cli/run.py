"""``fledge run RECIPE``: everything from raw pages to the report."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click

from fledge.cli.progress import terminal_progress
from fledge.cli.runner import Selection, describe, run_recipe
from fledge.cli.stages import KINDS
from fledge.cli.together import number_of_process
from fledge.core.recipe import load_recipe


@click.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="STAGE.KEY=VALUE")
@click.option("--from", "first", metavar="STAGE", help="Do this stage and all after it again.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", is_flag=True, help="Do every stage again.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and what would run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a stage on stdout.")
def command(
    recipe: Path,
    runs: Path,
    overrides: tuple[str, ...],
    first: str | None,
    until: str | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run RECIPE; finished stages are skipped, a killed one goes on where it stopped."""
    loaded = load_recipe(_find(recipe), KINDS, overrides)
    selection = Selection(first=first, until=until, force=force)
    if dry_run:
        click.echo(to_toml(loaded.resolved()))
        for stage, state in describe(loaded, runs, selection):
            click.echo(f"# {stage}: {state}")
        return
    progress = terminal_progress()
    manifests = run_recipe(loaded, runs, selection, progress)
    if number_of_process() > 0:
        return
    if as_json:
        for manifest in manifests:
            fields = ("stage", "seconds", "counts", "figures")
            click.echo(json.dumps({name: manifest[name] for name in fields}, ensure_ascii=False))
    _close(runs / loaded.name, progress.say)


def _find(recipe: Path) -> Path:
    """The recipe's file: as named, or the shipped one of that name (``fledge run bridges``)."""
    package = Path(__file__).parents[1]
    shipped = (package / "recipes", package.parents[1] / "recipes")
    places = [recipe, *(folder / f"{recipe}.toml" for folder in shipped)]
    return next((path for path in places if path.is_file()), recipe)


def _close(run: Path, say: Callable[[str], None]) -> None:
    """Write the report, show the ladder and how to go on."""
    from fledge.report.run_report import write_report

    page = write_report(run)
    say(f"report: {page}")
    if any((run / stage / "model").is_dir() for stage in ("sft", "pretrain")):
        say(f"chat:   {_own_name()} chat --model {run}")
        say(f"serve:  {_own_name()} serve --model {run}   (API and chat page)")
    if (run / "ground" / "index").is_dir():
        say(f'ask:    {_own_name()} ask {run} "…"   (quoted from the documents, with citations)')


def _own_name() -> str:
    """How the user can call this command again: by name where the shell finds it, or by path."""
    program = Path(sys.argv[0])
    if program.name != "fledge":
        return f"{os.path.relpath(sys.executable)} -m fledge"
    return "fledge" if shutil.which("fledge") else os.path.relpath(program)


def to_toml(tables: dict[str, object]) -> str:
    """A resolved recipe as TOML text (JSON values are TOML values, but for null)."""
    lines = []
    for key, value in tables.items():
        if not isinstance(value, dict):
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    for key, value in tables.items():
        if isinstance(value, dict):
            lines.append(f"\n[{key}]")
            lines += [_toml_line(name, entry) for name, entry in value.items()]
    return "\n".join(lines) + "\n"


def _toml_line(name: str, value: object) -> str:
    if value is None:
        return f"# {name}: derived"
    if isinstance(value, dict):
        inner = ", ".join(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
        return f"{name} = {{ {inner} }}"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"
