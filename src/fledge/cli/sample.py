"""``fledge sample``: the built-in sample world as files."""

from __future__ import annotations

from pathlib import Path

import click

from fledge.cli.single import run_single, stage_options


@click.command("sample")
@click.argument("world", type=click.Choice(["bridges"]), default="bridges")
@click.option("--bridges", type=int, help="How many bridges the web writes about.")
@stage_options
def command(
    world: str,
    bridges: int | None,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Write the sample WORLD: WARC pages, their ground truth, conversations, evaluation sets."""
    values = {} if bridges is None else {"bridges": bridges}
    run_single("samples", {}, values, out=out, overrides=overrides, force=force, as_json=as_json)
