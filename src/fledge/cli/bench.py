"""``fledge bench``: how fast a model answers here, beside what this machine could do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fledge.cli.progress import terminal_progress
from fledge.core.errors import InputError


@click.command("bench")
@click.option("--model", "spec", required=True, metavar="DIR", help="A folder or a GGUF file.")
@click.option(
    "--streams",
    default="1,8",
    show_default=True,
    metavar="N,N",
    help="Answers written at the same time.",
)
@click.option("--tokens", type=click.IntRange(2), default=128, show_default=True, help="A stream.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
    default="auto",
    help="Type of the weights.",
)
@click.option(
    "--runner",
    type=click.Choice(["auto", "native", "torch"]),
    default="auto",
    help="Compiled kernels or PyTorch; auto: kernels where they can be had.",
)
@click.option("--threads", type=click.IntRange(1), help="Cores to use; default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(spec: str, streams: str, tokens: int, as_json: bool, **how: Any) -> None:
    """Measure decoding and prefill of a model, and the machine's ceilings in the same run.

    Greedy, without stop tokens, random prompts; the best of three counts.
    """
    from fledge.engine.loading import load_engine
    from fledge.engine.measure import Speed, measure, measure_ceilings

    counts = _counts(streams)
    progress = terminal_progress()
    engine = load_engine(spec, progress=progress, **how)
    progress.say("measuring memory and products of this machine …")
    ceilings = measure_ceilings()

    def tell(speed: Speed) -> None:
        progress.say(f"{speed.name}, {speed.streams} at a time: {_rate(speed)}")

    speeds = measure(engine, ceilings, streams=counts, tokens=tokens, tell=tell)
    runner = type(engine.runner).__name__.removesuffix("Runner").lower()
    if as_json:
        facts = {"model": engine.name, "runner": runner, "parameters": engine.config.parameters}
        rows = [asdict(speed) for speed in speeds]
        click.echo(json.dumps({**facts, "ceilings": asdict(ceilings), "speeds": rows}))
        return
    table = Table(title=f"{engine.name}: {engine.config.parameters:,} parameters, {runner} runner")
    table.add_column("what")
    for head in ("at a time", "tokens/s", "of memory", "of products"):
        table.add_column(head, justify="right")
    for speed in speeds:
        memory = f"{speed.share_of_memory:.0%}" if speed.share_of_memory else ""
        products = f"{speed.share_of_products:.0%}"
        table.add_row(speed.name, str(speed.streams), _rate(speed, ""), memory, products)
    Console().print(table)
    click.echo(
        f"this machine: memory copies {ceilings.bytes_per_second / 1e9:.1f} GB/s,"
        f" float32 products {ceilings.flops / 1e9:.0f} GFLOP/s"
    )


def _rate(speed: Any, unit: str = " tokens/s") -> str:
    return f"{speed.tokens_per_second:,.0f}{unit}"


def _counts(text: str) -> tuple[int, ...]:
    """Numbers of streams; raises InputError for what is none."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise InputError(f"--streams {text}: numbers from 1 to 64, as in 1,8")
    return tuple(int(part) for part in parts)
