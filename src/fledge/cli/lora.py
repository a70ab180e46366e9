"""``fledge lora``: adapters in PEFT's format merged, looked into, and taken from a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fledge.cli.import_ import table
from fledge.cli.progress import amount, terminal_progress


@click.group("lora")
def command() -> None:
    """Merge adapters into a model, make them from two models, look into them."""


@command.command("merge")
@click.option("--model", required=True, metavar="BASE", help="The model the adapter belongs to.")
@click.option(
    "--adapter", required=True, metavar="DIR", help="A folder in PEFT's format, or a stage's."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the weights in DIR; the sums are float32.",
)
@click.option("--force", is_flag=True, help="Replace the model that is in DIR.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def merge(model: str, adapter: str, out: Path, dtype: str, force: bool, as_json: bool) -> None:
    """Write a plain checkpoint that does what BASE does with the adapter."""
    from fledge.model.adapter_folder import merge_adapter

    found = merge_adapter(
        model, adapter, out, dtype=dtype, force=force, progress=terminal_progress()
    )
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"{found['layers']} layers of rank {found['rank']} merged")
    if found["quantize_base"]:
        click.echo(f"base quantized to {found['quantize_base']}, as in training")
    click.echo(f"\n{out}")


@command.command("show")
@click.argument("adapter", metavar="DIR")
@click.option("--model", metavar="BASE", help="Its model: changes are told relative to that, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def show(adapter: str, model: str | None, as_json: bool) -> None:
    """Show what the adapter in DIR changes: layers, rank, size, norm of each layer's change."""
    from fledge.model.adapter_report import describe_adapter

    found = describe_adapter(adapter, model)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(table(_heads(found)))
    click.echo()
    for row in found["layers"]:
        shape = "x".join(map(str, row["shape"]))
        relative = f"  {row['relative']:8.2%}" if "relative" in row else ""
        click.echo(f"{row['name']:<40} {shape:>12}  {row['change']:10.4g}{relative}")


def _heads(found: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = [name for name in ("stabilised", "dora") if found[name]]
    return [
        ("base", str(found["base"]) + (f" in {q}" if (q := found["quantize_base"]) else "")),
        ("rank", f"{found['rank']}, scale {found['scale']:g}" + "".join(f", {k}" for k in kinds)),
        ("parameters", f"{found['parameters']:,} ({amount(found['bytes'], 'B')})"),
        *([("tokens", f"{found['tokens']} with rows of their own")] if found["tokens"] else []),
        ("layers", str(len(found["layers"]))),
    ]


@command.command("extract")
@click.option("--model", required=True, metavar="BASE", help="The model it was fine-tuned from.")
@click.option("--tuned", required=True, metavar="MODEL", help="The fine-tuned model.")
@click.option("--rank", type=click.IntRange(min=1), default=16, show_default=True, help="Its rank.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def extract(model: str, tuned: str, rank: int, out: Path, as_json: bool) -> None:
    """Write the adapter that comes nearest to the difference of two models."""
    from fledge.model.adapter_extract import extract_adapter

    found = extract_adapter(model, tuned, out, rank, terminal_progress())
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for name, share in found["kept"].items():
        click.echo(f"{name:<40} {share:8.2%} of the change kept")
    if found["left_out"]:
        names = ", ".join(found["left_out"][:3])
        click.echo(f"left out, since an adapter cannot say it: {names} ({len(found['left_out'])})")
    click.echo(f"\n{out}")
