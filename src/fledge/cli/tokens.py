"""``fledge tokens``: documents to token shards."""

from __future__ import annotations

from pathlib import Path

import click

from fledge.cli.single import folder_option, run_single, stage_options


@click.command("tokens")
@folder_option("corpus", "Folder of `fledge corpus build`.")
@folder_option("tokenizer", "Folder with tokenizer.json.")
@stage_options
def command(
    corpus: Path,
    tokenizer: Path,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Write the documents of a corpus as .npy token shards."""
    folders = {"corpus": corpus, "tokenizer": tokenizer}
    run_single("tokens", folders, {}, out=out, overrides=overrides, force=force, as_json=as_json)
