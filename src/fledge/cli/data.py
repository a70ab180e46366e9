"""``fledge data``: post-training data checked, shown, converted, cleaned and made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fledge.cli.progress import terminal_progress
from fledge.core.errors import InputError

if TYPE_CHECKING:
    from fledge.data.checking import Findings, Length, Limits
    from fledge.data.json_rows import Row

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
KIND = click.Choice(["auto", "sft", "preference", "judged"])


@click.group("data")
def command() -> None:
    """Check, show, convert, clean and make conversations and preferences."""


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--kind", type=KIND, default="auto", show_default=True, help="How to read the rows.")
@click.option(
    "--errors",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Name at most N faulty rows, and N rows a warning.",
)
@click.option("--model", type=click.Path(path_type=Path), help="Measure in its tokens.")
@click.option(
    "--longest",
    type=click.IntRange(min=1),
    help="Warn of longer rows; default: the model's context, or 32,000 characters.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check(
    files: tuple[Path, ...],
    kind: str,
    errors: int,
    model: Path | None,
    longest: int | None,
    as_json: bool,
) -> int:
    """Name every faulty row of FILES, warn of odd ones, tell lengths and languages.

    Exit code 1 when a row cannot be read.
    """
    from fledge.data.checking import check_rows

    limits = _limits(model, longest)
    found = check_rows(_counted(files), kind_by_name(kind, files), limits, errors)
    told = findings_row(found, files, limits)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        for line in _lines(told, limits):
            click.echo(line)
    return int(found.faulty > 0)


def kind_by_name(name: str, files: Sequence[Path]) -> Any:
    """The kind that ``--kind`` names, or that the files' first rows are of."""
    from fledge.data.examples import kind_of_files

    return kind_of_files(files) if name == "auto" else name


def _counted(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of all files, one after another, with a bar."""
    from fledge.data.json_rows import read_rows

    with terminal_progress().bar("rows", None, "rows") as bar:
        for file in files:
            for row in read_rows(file, "rows"):
                yield row
                bar.advance()


def _limits(model: Path | None, longest: int | None) -> Limits:
    from fledge.data.checking import Limits

    if model is None:
        return Limits() if longest is None else Limits(longest=longest)
    length, context = _measure(model)
    return Limits(longest=longest or context, length=length)


def _measure(model: Path) -> tuple[Length, int]:
    """(tokens of a conversation by the model's chat template, the model's context)."""
    from fledge.model.checkpoint import load_config
    from fledge.model.locate import find_checkpoint
    from fledge.tokenizer.tokenizer import Tokenizer
    from fledge.tune.turns import chat_tokenizer

    folder = find_checkpoint(model)
    tokenizer, _ = chat_tokenizer(Tokenizer.load(folder))

    def length(messages: Sequence[Any], tools: Sequence[Any]) -> int | None:
        openai = [message.to_openai() for message in messages]
        try:
            return len(tokenizer.encode_chat(openai, tools or None))
        except InputError:
            return None

    return length, load_config(folder).context


def findings_row(found: Findings, files: Sequence[Path], limits: Limits) -> dict[str, Any]:
    """The findings as ``--json`` prints them."""
    return {
        "kind": found.kind,
        "files": [str(file) for file in files],
        "rows": found.rows,
        "examples": found.examples,
        "faulty": found.faulty,
        "faults": [{"origin": one.origin, "fault": one.what} for one in found.faults],
        "warnings": {
            what: {"count": count, "first": [one.origin for one in found.warnings[what]]}
            for what, count in sorted(found.warned.items())
        },
        "unit": limits.unit,
        "longest": limits.longest,
        **found.statistics.result(),
    }


def _lines(told: dict[str, Any], limits: Limits) -> Iterator[str]:
    """The same for people."""
    from fledge.cli.chat import harmless
    from fledge.cli.row_view import columns
    from fledge.data.checking import WARNINGS
    from fledge.data.row_statistics import QUANTILES

    names = ", ".join(told["files"])
    yield f"{names}: {told['rows']:,} rows of kind {told['kind']}, {told['faulty']:,} faulty"
    for one in told["faults"]:
        yield click.style(f"  {harmless(one['origin'])}: {harmless(one['fault'])}", fg="red")
    if told["faulty"] > len(told["faults"]):
        yield f"  and {told['faulty'] - len(told['faults']):,} more (--errors N names more)"
    for what, one in told["warnings"].items():
        words = WARNINGS[what].format(longest=f"{limits.longest:,}", unit=limits.unit)
        yield click.style(f"warning: {one['count']:,} rows: {words}", fg="yellow")
        first = ", ".join(harmless(Path(origin).name) for origin in one["first"][:3])
        yield f"  {first}{' …' if one['count'] > 3 else ''}"
    if not told["examples"]:
        return
    heads = ["", *QUANTILES]
    rows = [
        [_name(name, limits), *(f"{value:,}" for value in values.values())]
        for name, values in told["lengths"].items()
    ]
    yield from columns([heads, *rows])
    for title, shares in (("language", _shares(told["languages"])), ("share of", told["shares"])):
        yield from columns([[title, ""], *([f"  {k}", f"{v:.1%}"] for k, v in shares.items())])


def _name(name: str, limits: Limits) -> str:
    return f"whole, {limits.unit}" if name == "whole" else name.replace("_", ", ")


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


@command.command("show")
@click.argument("file", type=FILE)
@click.option("--at", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Begin with the Nth row.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), default=3, show_default=True, metavar="N",
              help="Show N rows.")  # fmt: skip
@click.option("--kind", type=KIND, default="auto", show_default=True, help="How to read the rows.")
def show(file: Path, at: int, count: int, kind: str) -> None:
    """Show rows of FILE: who says what, and how chosen and rejected answers differ."""
    from rich.console import Console

    from fledge.cli.row_view import show_example, show_fault
    from fledge.data.examples import parse_examples
    from fledge.data.json_rows import read_rows

    console = Console(highlight=False)
    shown, read_as = 0, kind_by_name(kind, [file])
    for row in islice(read_rows(file, "rows"), at - 1, at - 1 + count):
        shown += 1
        try:
            if row.fault:
                raise ValueError(row.fault)
            for example in parse_examples(row.value, row.origin, read_as):
                show_example(example, console)
        except ValueError as error:
            show_fault(row.origin, str(error), console)
    if not shown:
        raise InputError(f"{file} has fewer than {at} rows", remedy="choose a smaller --at")


@command.command("convert")
@click.argument("source", type=FILE)
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["messages", "sharegpt", "alpaca", "preference", "judged"]),
    help="The form of the rows to write.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--kind", type=KIND, default="auto", show_default=True, help="How to read the rows.")
@click.option("--best", is_flag=True, help="Of pairs the chosen answers, of judged the good ones.")
@click.option("--skip", is_flag=True, help="Leave out rows that the form cannot hold; count them.")
def convert(source: Path, form: str, out: Path, kind: str, best: bool, skip: bool) -> None:
    """Write the rows of SOURCE in another form; refuses what the form cannot hold."""
    from fledge.core.files import write_jsonl
    from fledge.data.converting import rows_in_form
    from fledge.data.examples import read_examples

    if out.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the source itself", remedy="name another file")
    left_out: list[str] = []

    def rows() -> Iterator[dict[str, Any]]:
        for example in read_examples(source, kind_by_name(kind, [source])):
            try:
                yield from rows_in_form(example, form, best=best)  # type: ignore[arg-type]
            except ValueError as error:
                if not skip:
                    remedy = "choose another form, or --skip such rows"
                    raise InputError(f"{example.origin}: {error}", remedy=remedy) from None
                left_out.append(f"{example.origin}: {error}")

    written = write_jsonl(out, rows())
    click.echo(f"{written:,} rows written to {out}, {len(left_out):,} left out")
    if left_out:
        click.echo(f"  the first: {left_out[0]}")
