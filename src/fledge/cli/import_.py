"""``fledge import``: a checkpoint from anywhere in, a checked Hugging Face directory out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fledge.cli.progress import terminal_progress


@click.command("import")
@click.argument("source", metavar="SRC")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to write; it appears when all is well.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Type of the weights in DIR.  Default: the one they have.",
)
@click.option("--force", is_flag=True, help="Replace the model that is in DIR.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(source: str, out: Path, dtype: str | None, force: bool, as_json: bool) -> None:
    """Check a checkpoint whole and write it to DIR as fledge and transformers read it.

    SRC is a Hugging Face directory (Llama, Mistral, Qwen 2 and 3, SmolLM, BERT; sharded or not),
    a GGUF file, or a run or stage directory of fledge.
    """
    from fledge.model.importing import import_checkpoint

    found = import_checkpoint(source, out, dtype=dtype, force=force, progress=terminal_progress())
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(table(rows(found)))
    for line in found["warnings"]:
        click.echo(f"warning: {line}")
    click.echo(f"\n{out}")


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was found, for people."""
    shape, tokenizer = found["model"], found["tokenizer"]
    heads = f"{shape['heads']} heads"
    if "kv_heads" in shape:
        heads += f", {shape['kv_heads']} for keys, of {shape['head_size']}"
    stored = ", ".join(f"{kind} {count:,}" for kind, count in found["stored"].items())
    scaling = shape.get("rope_scaling")
    extras = {
        "window": f"{shape.get('window')} tokens",
        "rope scaling": f"{scaling['kind']} x {scaling['factor']:g}" if scaling else "",
    }
    return [
        ("architecture", f"{found['architecture']} ({found['source']['kind']})"),
        ("parameters", f"{shape['parameters']:,}"),
        ("shape", f"{shape['depth']} layers, {shape['width']} wide, {heads}, ffn {shape['ffn']}"),
        ("context", f"{shape['context']:,} tokens"),
        *((name, text) for name, text in extras.items() if shape.get(name.replace(" ", "_"))),
        ("weights", f"{stored}; written as {found['dtype']}"),
        ("vocabulary", f"{shape['vocab_size']:,} rows, {tokenizer['vocab_size']:,} tokens"),
        ("tokenizer", tokenizer["kind"] + (", lossless" if tokenizer["lossless"] else "")),
        ("chat template", "yes" if tokenizer["chat_template"] else "no"),
    ]


def table(lines: list[tuple[str, str]]) -> str:
    """Two columns."""
    return "\n".join(f"{name:<14} {value}" for name, value in lines)
