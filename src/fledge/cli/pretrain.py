"""``fledge pretrain``: a model from token shards."""

from __future__ import annotations

from pathlib import Path

import click

from fledge.cli.single import folder_option, run_single, stage_options


@click.command("pretrain")
@folder_option("tokens", "Folder of `fledge tokens`.")
@folder_option("tokenizer", "Folder with tokenizer.json.")
@click.option("--depth", type=int, help="Layers; the rest of the shape is derived from it.")
@stage_options
def command(
    tokens: Path,
    tokenizer: Path,
    depth: int | None,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Train a model from scratch, or on from --set init=DIR; the checkpoint is OUT/model."""
    folders = {"tokens": tokens, "tokenizer": tokenizer}
    values = {} if depth is None else {"depth": depth}
    run_single(
        "pretrain", folders, values, out=out, overrides=overrides, force=force, as_json=as_json
    )
