"""``fledge scale``: a ladder of small runs, their scaling law, and what a budget wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fledge.cli.progress import terminal_progress
from fledge.cli.runner import locked
from fledge.cli.single import folder_option
from fledge.cli.together import are_several
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.files import write_text
from fledge.core.recipe import apply_override

PAGE = "report.html"


@click.command("scale")
@click.argument("tokens", type=click.Path(exists=True, file_okay=False, path_type=Path))
@folder_option("tokenizer", "Folder with tokenizer.json.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the runs go.")
@click.option(
    "--budget",
    "flops",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    metavar="FLOPS",
    help="Say what size so many operations want.",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Say what size so many hours on this machine want.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="See the settings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    tokens: Path,
    tokenizer: Path,
    out: Path,
    flops: tuple[float, ...],
    hours: tuple[float, ...],
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a ladder of small models on TOKENS, fit L = E + A/N^alpha + B/D^beta, predict.

    A larger run is predicted, then trained and compared.  Called again, finished runs are kept.
    """
    from fledge.report.scaling_page import render_scaling
    from fledge.train.scale import Ask, scale
    from fledge.train.scale_config import ScaleConfig

    if are_several():
        raise InputError("fledge scale trains in one process", remedy="start it without torchrun")
    values: dict[str, Any] = {}
    for override in overrides:
        apply_override(values, override)
    inner = values.pop("scale", {})  # scale.flops=… and flops=… mean the same
    if not isinstance(inner, dict):
        raise InputError("--set scale=… is no table", remedy="write --set scale.KEY=VALUE")
    config = parse_config(ScaleConfig, {**values, **inner}, "fledge scale")
    out = out.resolve()
    _check_out(out, tokens.resolve(), tokenizer.resolve())
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock"):
        ask = Ask(flops=flops, hours=hours)
        found = scale(config, tokens, tokenizer, out, terminal_progress(), ask)
        write_text(out / PAGE, render_scaling(out.name, found))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo(summary(found))
        click.echo(f"\n{out / PAGE}")


def _check_out(out: Path, *inputs: Path) -> None:
    """Refuses a folder of the user's that is none of ours."""
    if out.is_file():
        raise InputError(f"--out {out} is a file", remedy="name a folder")
    if any(path == out or out in path.parents for path in inputs):
        raise InputError(f"--out {out} holds an input", remedy="name a new folder")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if held and "runs" not in held and ".lock" not in held:
        raise InputError(f"--out {out} is not empty and no ladder", remedy="name a new folder")


def summary(found: dict[str, Any]) -> str:
    """The findings for people."""
    law = found["law"]
    lines = ["L(N, D) = E + A / N^alpha + B / D^beta   nats a token; 95 % intervals"]
    lines += [f"  {name:<6} {_with_interval(row, '.4g')}" for name, row in law.items()]
    lines.append(f"  N ~ C^{_with_interval(found['exponents']['size'], '.2f')}")
    lines.append(f"  D ~ C^{_with_interval(found['exponents']['data'], '.2f')}")
    held = found["held_out"]
    verdict = "inside" if held["inside"] else "OUTSIDE"
    low, high = held["ci95"]
    lines += [
        f"held-out run {held['name']} ({held['beyond']:.1f} x the operations of the largest "
        "fitted)",
        f"  predicted {held['predicted']:.4f} [{low:.4f}, {high:.4f}] nats a token, "
        f"{held['predicted_bits_per_byte']:.4f} bits a byte",
        f"  measured  {held['measured']:.4f}, {held['measured_bits_per_byte']:.4f} bits a byte: "
        f"{verdict} the interval, prediction off by {held['error']:+.2%}",
        "compute-optimal",
        *(_budget_line(row) for row in found["budgets"]),
        *(f"warning: {line}" for line in found["warnings"]),
    ]
    return "\n".join(lines)


def _with_interval(row: dict[str, Any], form: str) -> str:
    low, high = row["ci95"]
    return f"{row['value']:{form}} [{low:{form}}, {high:{form}}]"


def _budget_line(row: dict[str, Any]) -> str:
    if row["parameters"] is None:
        return f"  {row['asked']}: this law has no optimum"
    shape = row["shape"]
    return (
        f"  {row['asked']} (C = {row['flops']:.2e}): N = {_with_interval(row['parameters'], '.3g')}"
        f", D = {_with_interval(row['tokens'], '.3g')} tokens, loss {row['loss']['value']:.3f}; "
        f"nearest: depth {shape['depth']} ({shape['parameters']:,} parameters)"
    )
