"""``fledge embed``: train an embedder, mine hard negatives for it, measure it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fledge.cli.progress import terminal_progress
from fledge.cli.single import run_single, stage_options
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.recipe import apply_override

Door = TypeVar("Door", bound=Callable[..., Any])


def pairs_option(door: Door) -> Door:
    """``--pairs``, once or several times."""
    help_text = "JSONL: {query, positive, negatives?} or {en, zh}."
    option = click.option("--pairs", multiple=True, required=True, metavar="FILE", help=help_text)
    return option(door)


@click.group("embed")
def command() -> None:
    """Embedders: texts to vectors, near each other where texts belong together."""


@command.command("train")
@pairs_option
@click.option("--model", type=click.Path(path_type=Path), help="An embedder to go on from.")
@click.option("--teacher", metavar="DIR", help="An embedder that shows where texts belong.")
@stage_options
def train(
    pairs: tuple[str, ...],
    model: Path | None,
    teacher: str | None,
    out: Path,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Train an embedder on pairs of texts; it is OUT/model.

    Without --model it is a new table of words, which embeds thousands of texts a second.
    """
    values: dict[str, Any] = {"pairs": list(pairs)}
    if teacher:
        values["teacher"] = teacher
    folders = {} if model is None else {"model": _embedder(model)}
    run_single(
        "embedder",
        folders,
        values,
        out=out,
        overrides=overrides,
        force=force,
        as_json=as_json,
    )


@command.command("mine")
@pairs_option
@click.option("--model", type=click.Path(path_type=Path), required=True, help="An embedder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A JSONL file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
def mine(pairs: tuple[str, ...], model: Path, out: Path, overrides: tuple[str, ...]) -> None:
    """Add hard negatives to pairs: near the query, but not as near as the right text."""
    from fledge.core.files import write_jsonl
    from fledge.tune.embedder_config import MineConfig
    from fledge.tune.embedder_mining import mine_negatives
    from fledge.tune.embedder_open import open_embedder
    from fledge.tune.embedder_rows import read_pair_rows

    values: dict[str, Any] = {}
    for override in overrides:
        apply_override(values, override)
    config = parse_config(MineConfig, values, "fledge embed mine")
    if out.resolve() in {Path(file).resolve() for file in pairs}:
        raise InputError(f"--out {out} is one of the --pairs", remedy="name a new file")
    rows = read_pair_rows([Path(file) for file in pairs])
    embed = open_embedder(_embedder(model))
    count = write_jsonl(out, mine_negatives(rows, embed, config, terminal_progress()))
    click.echo(f"{count:,} pairs in {out}", err=True)


@command.command("eval")
@pairs_option
@click.option("--model", type=click.Path(path_type=Path), required=True, help="An embedder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
def evaluate(pairs: tuple[str, ...], model: Path, as_json: bool) -> None:
    """How well an embedder finds each positive by its query, among the positives of its source."""
    from fledge.tune.embedder_held_out import source_reports
    from fledge.tune.embedder_open import open_embedder
    from fledge.tune.embedder_rows import read_pair_rows

    rows = read_pair_rows([Path(file) for file in pairs])
    for report in source_reports(open_embedder(_embedder(model)), rows):
        click.echo(json.dumps(report, ensure_ascii=False) if as_json else _line(report))


def _line(report: dict[str, Any]) -> str:
    low, high = report["mrr_ci95"]
    return (
        f"{report['source']}: hit@1 {report['hit1']:.3f}  hit@10 {report['hit10']:.3f}  "
        f"MRR {report['mrr']:.3f} [{low:.3f}, {high:.3f}]  "
        f"({report['queries']:,} queries, {report['passages']:,} passages)"
    )


def _embedder(path: Path) -> Path:
    """The folder of an embedder: the one named, or the ``model`` in it."""
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"{path} holds no embedder", remedy="name a folder with config.json")
