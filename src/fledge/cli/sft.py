"""``fledge sft``: a model that answers, from a base model and conversations."""

from __future__ import annotations

from pathlib import Path

import click

from fledge.cli.single import folder_option, run_single, stage_options


@click.command("sft")
@folder_option("model", "The model to fine-tune: a run, stage or Hugging Face folder.")
@click.option("--conversations", multiple=True, required=True, metavar="FILE", help="JSONL files.")
@stage_options
def command(
    model: Path,
    conversations: tuple[str, ...],
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Fine-tune on conversations (OpenAI messages as JSONL); the checkpoint is OUT/model."""
    values = {"conversations": list(conversations)}
    run_single(
        "sft",
        {"pretrain": model},
        values,
        out=out,
        overrides=overrides,
        force=force,
        as_json=as_json,
    )
