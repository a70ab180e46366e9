"""``fledge data clean``: what should not be learnt is dropped, each row with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fledge.cli.progress import terminal_progress
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.recipe import apply_override
from fledge.data.examples import KINDS
from fledge.data.synthesis.asking import LANGUAGES

if TYPE_CHECKING:
    from fledge.data.json_rows import Row
    from fledge.data.sifting import Score


@click.command("clean")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(
    "--against",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Evaluation items that must not be learnt (JSONL).",
)
@click.option(
    "--kind",
    type=click.Choice(["auto", *KINDS]),
    default="auto",
    show_default=True,
    help="How to read the rows.",
)
@click.option("--judge", metavar="DIR|URL", help="A model that scores answers from 1 to 10.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="Holds the key of a URL.")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    help="Of the judge's instructions.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def clean(
    files: tuple[Path, ...],
    out: Path,
    against: tuple[Path, ...],
    overrides: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Sift the rows of FILES: OUT/kept.jsonl, OUT/dropped.jsonl with reasons, OUT/report.json."""
    from fledge.data.contamination import Contamination, evaluation_texts
    from fledge.data.examples import kind_named
    from fledge.data.sifting import Checks, sift, write_sifted
    from fledge.data.sifting_config import SiftingConfig

    values: dict[str, Any] = {}
    for override in overrides:
        apply_override(values, override)
    config = parse_config(SiftingConfig, values, "fledge data clean")
    if config.min_score is not None and options["judge"] is None:
        raise InputError("min_score needs a judge", remedy="name one with --judge")
    if any(file.resolve().parent == out.resolve() for file in files):
        raise InputError(f"--out {out} holds the source", remedy="name another folder")
    kind = kind_named(options["kind"], files)
    held = Contamination(evaluation_texts(against), config.ngram) if against else None
    checks = Checks(contamination=held, score=_judge(options))
    sifted = sift(_rows(files), kind, config, checks, terminal_progress())
    report = {
        "kind": kind,
        "files": [str(file) for file in files],
        "against": [str(file) for file in against],
        "judge": options["judge"],
        "settings": config.model_dump(),
        **sifted.counts(),
    }
    write_sifted(sifted, out, report)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
        return
    click.echo(f"{report['kept']:,} of {report['rows']:,} rows kept in {out}")
    for reason, count in report["dropped"].items():
        click.echo(f"  {reason:<28} {count:>8,}")


def _rows(files: tuple[Path, ...]) -> Iterator[Row]:
    from fledge.data.json_rows import read_rows

    for file in files:
        yield from read_rows(file, "rows")


def _judge(options: dict[str, Any]) -> Score | None:
    """The judge as a scoring function, when one is named."""
    if options["judge"] is None:
        return None
    from fledge.cli.synthesize import open_judge

    return open_judge(options["judge"], options["api_key_file"], options["language"])
