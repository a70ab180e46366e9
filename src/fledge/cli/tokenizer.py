"""``fledge tokenizer train`` and ``fledge tokenizer show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from fledge.cli.progress import terminal_progress
from fledge.core.config import parse_config
from fledge.core.recipe import apply_override
from fledge.tokenizer.config import TokenizerConfig


@click.group("tokenizer")
def command() -> None:
    """Train a tokenizer; show how it reads a text."""


@command.command("train")
@click.option("--input", "inputs", multiple=True, required=True, metavar="PATH")
@click.argument("more", nargs=-1, metavar="[PATH]...")
@click.option("--vocab-size", type=int, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def train(
    inputs: tuple[str, ...],
    more: tuple[str, ...],
    vocab_size: int,
    out: Path,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a byte-level BPE on text of any readable form; writes tokenizer.json."""
    from fledge.tokenizer.train import train_tokenizer

    values: dict[str, object] = {"vocab_size": vocab_size}
    for override in overrides:
        apply_override(values, override)
    config = parse_config(TokenizerConfig, values, "fledge tokenizer train")

    def texts() -> Iterator[tuple[str, str]]:
        return _texts((*inputs, *more))

    outcome = train_tokenizer(config, texts, texts, out, terminal_progress())
    row = {"out": str(out), **outcome.counts, **outcome.figures}
    click.echo(json.dumps(row, ensure_ascii=False) if as_json else _table(row))


def _table(row: dict[str, object]) -> str:
    return "\n".join(f"{name:<36} {value}" for name, value in row.items())


def _texts(inputs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(language, text) of a corpus folder's documents, or of raw files of any readable form."""
    from fledge.cli.stages_base import corpus_texts
    from fledge.data.inputs import expand_inputs
    from fledge.data.preview import extract_file

    for name in inputs:
        if (Path(name) / "documents").is_dir():
            yield from corpus_texts(Path(name), "train")
            continue
        for path in expand_inputs([name]):
            for row in extract_file(path):
                if not row["dropped"]:
                    yield str(row["language"]), str(row["text"])


@command.command("show")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a token.")
def show(model: Path, text: str, as_json: bool) -> None:
    """Show the tokens of TEXT under the tokenizer of MODEL (a run, stage or model folder)."""
    from fledge.model.locate import find_checkpoint
    from fledge.tokenizer.tokenizer import MODEL_FILE, Tokenizer

    folder = model if (model / MODEL_FILE).is_file() else find_checkpoint(str(model))
    tokenizer = Tokenizer.load(folder)
    rows = tokenizer.tokens(text)
    for token, start, end in rows:
        if as_json:
            row = {"id": token, "text": text[start:end], "start": start, "end": end}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo(f"{token:>7}  {tokenizer.token_bytes(token)!r:24} {text[start:end]!r}")
    if not as_json and rows:
        size = len(text.encode())
        click.echo(f"{len(rows)} tokens, {size} bytes, {size / len(rows):.2f} bytes per token")
