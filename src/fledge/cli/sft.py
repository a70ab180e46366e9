"""``fledge sft``: a model that answers, from a base model and conversations."""

from __future__ import annotations

from pathlib import Path

import click

from fledge.cli.single import folder_option, run_single, stage_options


@click.command("sft")
@folder_option("model", "The model to fine-tune: a run, stage or Hugging Face folder.")
@click.option("--conversations", multiple=True, required=True, metavar="FILE", help="JSONL files.")
@click.option(
    "--tokens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Token shards to mix in, for --set replay_share=…",
)
@stage_options
def command(
    model: Path,
    conversations: tuple[str, ...],
    tokens: Path | None,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Fine-tune on conversations (OpenAI messages as JSONL); the checkpoint is OUT/model."""
    from fledge.model.locate import find_checkpoint

    values = {"conversations": list(conversations)}
    folders = {"pretrain": find_checkpoint(model)} | ({"tokens": tokens} if tokens else {})
    run_single(
        "sft",
        folders,
        values,
        out=out,
        overrides=overrides,
        force=force,
        as_json=as_json,
    )
