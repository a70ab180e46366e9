"""``fledge honesty``: a model that says what it does not know, from a model and facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fledge.cli.single import folder_option, run_single, stage_options


@click.command("honesty")
@folder_option("model", "A model that answers: a run, stage or Hugging Face folder.")
@click.option(
    "--facts",
    multiple=True,
    required=True,
    metavar="FILE",
    help="JSONL: questions (one fact in several wordings) and answers (none: nobody can know).",
)
@click.option(
    "--conversations", multiple=True, metavar="FILE", help="To learn again, for --set rehearse=…"
)
@click.option(
    "--tokens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Token shards to mix in, for --set replay_share=…",
)
@stage_options
def command(
    model: Path,
    facts: tuple[str, ...],
    conversations: tuple[str, ...],
    tokens: Path | None,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Ask what a model knows, then teach it to answer that and to decline the rest.

    The checkpoint is OUT/model; OUT/probe.jsonl tells what it knew of each fact.
    """
    from fledge.model.locate import find_checkpoint

    values: dict[str, Any] = {"facts": list(facts), "conversations": list(conversations)}
    folders = {"sft": find_checkpoint(model)} | ({"tokens": tokens} if tokens else {})
    run_single(
        "honesty", folders, values, out=out, overrides=overrides, force=force, as_json=as_json
    )
