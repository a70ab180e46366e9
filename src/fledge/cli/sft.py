"""``fledge sft``: a model that answers, from a base model and conversations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fledge.cli.chat import harmless
from fledge.cli.single import folder_option, run_single, showing_options
from fledge.core.config import parse_config
from fledge.core.recipe import apply_override

SHOWN = 5
"""Conversations that ``--show-masks`` prints when it is not told how many."""


@click.command("sft")
@folder_option("model", "The model to fine-tune: a run, stage or Hugging Face folder.")
@click.option(
    "--conversations", multiple=True, required=True, metavar="FILE", help="JSONL or JSON, also .zst"
)
@click.option(
    "--tokens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Token shards to mix in, for --set replay_share=…",
)
@click.option(
    "--show-masks",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=SHOWN,
    metavar="[N]",
    help=f"Print N ({SHOWN}) conversations with what is learnt of them; train nothing.",
)
@showing_options
def command(
    model: Path,
    conversations: tuple[str, ...],
    tokens: Path | None,
    show_masks: int | None,
    out: Path | None,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Fine-tune on conversations (OpenAI, ShareGPT or Alpaca); the checkpoint is OUT/model."""
    from fledge.model.locate import find_checkpoint

    values: dict[str, Any] = {"conversations": list(conversations)}
    source = find_checkpoint(model)
    if show_masks is not None:
        return _show(source, values, overrides, show_masks, as_json)
    folders = {"pretrain": source} | ({"tokens": tokens} if tokens else {})
    run_single("sft", folders, values, out=out, overrides=overrides, force=force, as_json=as_json)


def _show(
    source: Path, values: dict[str, Any], overrides: Sequence[str], count: int, as_json: bool
) -> None:
    """Print ``count`` conversations as the model would read them."""
    from fledge.model.checkpoint import load_config
    from fledge.tokenizer.tokenizer import Tokenizer
    from fledge.tune.config import SftConfig
    from fledge.tune.masks import Shown, shown_conversations
    from fledge.tune.material import row_length
    from fledge.tune.turns import chat_tokenizer

    for override in overrides:
        apply_override(values, override)
    config = parse_config(SftConfig, values, "fledge sft")
    tokenizer, _ = chat_tokenizer(Tokenizer.load(source))
    context = row_length(config, load_config(source).context)
    files = [Path(path) for path in config.conversations]
    shown: list[Shown] = []
    for one in shown_conversations(config, files, tokenizer, context, count):
        shown.append(one)
        if not as_json:
            _print(one)
    learnt, tokens = sum(one.learnt for one in shown), sum(one.tokens for one in shown)
    if as_json:
        rows = [
            {
                "origin": one.origin,
                "parts": [{"text": text, "learnt": mine} for text, mine in one.parts],
                "tokens": one.tokens,
                "learnt": one.learnt,
                "left_out": one.left_out,
            }
            for one in shown
        ]
        totals = {"conversations": rows, "tokens": tokens, "learnt": learnt}
        click.echo(json.dumps(totals, ensure_ascii=False))
        return
    click.echo(f"{len(shown)} conversations, {tokens:,} tokens, {learnt:,} of them learnt")


def _print(one: Any) -> None:
    """The text, what is learnt of it in ⟦ ⟧ and green."""
    kept = f"; left out: it {one.left_out}" if one.left_out else ""
    click.secho(f"{one.origin}  {one.tokens} tokens, {one.learnt} learnt{kept}", bold=True)
    for text, learnt in one.parts:
        clean = harmless(text)
        click.echo(click.style(f"⟦{clean}⟧", fg="green") if learnt else clean, nl=False)
    click.echo("\n")
