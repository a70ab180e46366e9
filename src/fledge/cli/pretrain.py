"""``fledge pretrain``: a model from token shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fledge.cli.single import folder_option, run_single, stage_options
from fledge.core.config import parse_config
from fledge.core.recipe import apply_override
from fledge.train.config import PretrainConfig


@click.command("pretrain")
@folder_option("tokens", "Folder of `fledge tokens`.")
@folder_option("tokenizer", "Folder with tokenizer.json.")
@click.option("--depth", type=int, help="Layers; the rest of the shape is derived from it.")
@click.option("--dry-run", is_flag=True, help="Print what is derived; train nothing.")
@stage_options
def command(
    tokens: Path,
    tokenizer: Path,
    depth: int | None,
    dry_run: bool,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Train a model from scratch, or on from --set init=DIR; the checkpoint is OUT/model."""
    values: dict[str, Any] = {} if depth is None else {"depth": depth}
    if dry_run:
        _show_plan(tokens, tokenizer, values, overrides, as_json)
        return
    folders = {"tokens": tokens, "tokenizer": tokenizer}
    run_single(
        "pretrain", folders, values, out=out, overrides=overrides, force=force, as_json=as_json
    )


def _show_plan(
    tokens: Path,
    tokenizer: Path,
    values: dict[str, Any],
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Print the plan of the run: each value, and whether it was given or which rule it follows."""
    from fledge.train.pretrain import dry_run

    for override in overrides:
        apply_override(values, override)
    config = parse_config(PretrainConfig, values, "fledge pretrain")
    planned = dry_run(config, tokens, tokenizer)
    if as_json:
        click.echo(json.dumps(planned.record(), ensure_ascii=False))
    else:
        click.echo("\n".join(planned.lines()))
