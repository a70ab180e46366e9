"""What ``fledge dpo`` and ``fledge reward`` share: options, and pairs as the model reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from fledge.cli.chat import harmless
from fledge.cli.single import folder_option, run_single, showing_options
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.recipe import apply_override

Door = TypeVar("Door", bound=Callable[..., Any])

SHOWN = 3
"""Pairs that ``--show`` prints when it is not told how many."""


def pair_options(door: Door) -> Door:
    """The options of a stage that learns from pairs."""
    for option in (
        showing_options,
        click.option(
            "--show",
            type=click.IntRange(min=1),
            is_flag=False,
            flag_value=SHOWN,
            metavar="[N]",
            help=f"Print N ({SHOWN}) pairs as the model reads them; train nothing.",
        ),
        click.option(
            "--preferences",
            multiple=True,
            required=True,
            metavar="FILE",
            help="Pairs of answers, JSONL or JSON, also .zst; see `fledge data check`.",
        ),
        folder_option("model", "The model to start from: a run, stage or Hugging Face folder."),
    ):
        door = option(door)
    return door


def run_pairs(stage: str, options: dict[str, Any]) -> None:
    """Run ``stage``, or show what it would read, as the ``options`` of its door say."""
    from fledge.model.locate import find_checkpoint

    values: dict[str, Any] = {"preferences": list(options["preferences"])}
    source, overrides = find_checkpoint(options["model"]), options["overrides"]
    if options["show"] is not None:
        return _show(stage, source, values, overrides, options["show"], options["as_json"])
    run_single(
        stage,
        {"sft": source},
        values,
        out=options["out"],
        overrides=overrides,
        force=options["force"],
        as_json=options["as_json"],
    )


def _show(
    stage: str,
    source: Path,
    values: dict[str, Any],
    overrides: Sequence[str],
    count: int,
    as_json: bool,
) -> None:
    from fledge.cli.stages import KINDS
    from fledge.model.checkpoint import load_config
    from fledge.tokenizer.tokenizer import Tokenizer
    from fledge.tune.pairs import read_judgements, read_pairs, side_length
    from fledge.tune.preference_config import PairConfig
    from fledge.tune.shown_pairs import shown_pairs
    from fledge.tune.turns import chat_tokenizer

    for override in overrides:
        apply_override(values, override)
    config = parse_config(KINDS[stage], values, f"fledge {stage}")
    assert isinstance(config, PairConfig)
    if getattr(config, "kind", "answers") == "steps":
        raise InputError("--show is of pairs, not of steps", remedy="leave out kind = 'steps'")
    tokenizer, _ = chat_tokenizer(Tokenizer.load(source))
    context = side_length(config, load_config(source).context, stage)
    files = [Path(path) for path in config.preferences]
    read = read_judgements if getattr(config, "loss", "") == "kto" else read_pairs
    for one in shown_pairs(files, tokenizer, context, config.overlong, count, read):
        if as_json:
            click.echo(json.dumps(asdict(one), ensure_ascii=False))
        else:
            _print(one)


def _print(one: Any) -> None:
    """Both answers with their prompt, what counts of them in ⟦ ⟧ and in colour."""
    note = f"  left out: it {one.left_out}" if one.left_out else ""
    note += "  its prompt is cut from the left" if one.cut else ""
    click.secho(f"{one.origin}{note}", bold=True)
    for answer in one.answers:
        colour = "green" if answer["side"] == "chosen" else "red"
        click.secho(f"{answer['side']}: {answer['tokens']} tokens, {answer['counted']} count")
        for part in answer["parts"]:
            clean = harmless(part["text"])
            styled = click.style(f"⟦{clean}⟧", fg=colour) if part["counts"] else clean
            click.echo(styled, nl=False)
        click.echo("\n")
