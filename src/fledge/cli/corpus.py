"""``fledge corpus build`` and ``fledge corpus stats``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fledge.cli.single import run_single, stage_options


@click.group("corpus")
def command() -> None:
    """Build clean documents from raw pages; show statistics."""


@command.command("build")
@click.option("--input", "inputs", multiple=True, required=True, metavar="PATH")
@click.argument("more", nargs=-1, metavar="[PATH]...")
@stage_options
def build(
    inputs: tuple[str, ...],
    more: tuple[str, ...],
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Read files, folders or globs; write clean documents, the dropped ones and statistics."""
    values = {"input": [*inputs, *more]}
    run_single("corpus", {}, values, out=out, overrides=overrides, force=force, as_json=as_json)


@command.command("stats")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def stats(folder: Path, as_json: bool) -> None:
    """Documents in, kept and dropped by reason, languages; scores where truth is known."""
    from fledge.data.corpus import corpus_stats

    found = corpus_stats(folder)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"documents  {found['documents']:>10,}   kept {found['kept']:,}")
    for title in ("dropped", "languages"):
        click.echo(title)
        for name, number in sorted(found[title].items(), key=lambda item: -item[1]):
            click.echo(f"  {name:<24} {number:>8,}")
    for name, value in found.get("figures", {}).items():
        click.echo(f"{name:<34} {value:.4f}")
