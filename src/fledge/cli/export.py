"""``fledge export``: a checkpoint in, a Hugging Face directory or a GGUF file for others out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from fledge.cli.import_ import table
from fledge.cli.progress import amount, terminal_progress
from fledge.core.errors import InputError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@click.command("export")
@click.argument("model", metavar="MODEL")
@click.option(
    "--format",
    "form",
    type=click.Choice(["hf", "gguf"]),
    required=True,
    help="A directory for transformers and vLLM, or a file for llama.cpp.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="Directory (hf) or file (gguf) to write; it appears when it is whole.",
)
@click.option(
    "--type",
    "--dtype",
    "kind",
    type=click.Choice(["f32", "f16", "bf16", "q8_0"]),
    help="Type of the weights; q8_0 in GGUF only.  Default: theirs for hf, f16 for gguf.",
)
@click.option("--max-shard-size", metavar="SIZE", help="hf: split the weights, such as at 2GB.")
@click.option("--tokenizer-pre", metavar="NAME", help="gguf: llama.cpp's name of the way to split.")
@click.option("--force", is_flag=True, help="Replace what is at PATH.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    model: str,
    form: str,
    out: Path,
    kind: str | None,
    max_shard_size: str | None,
    tokenizer_pre: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write MODEL (a run, stage or Hugging Face directory, or a GGUF file) for other programs.

    hf is a directory for transformers and vLLM; gguf one file for llama.cpp and what builds on it.
    """
    from fledge.model.exporting import export_gguf, export_huggingface

    _check(form, max_shard_size, tokenizer_pre)
    progress = terminal_progress()
    if form == "gguf":
        found = export_gguf(
            model, out, kind=kind, pre=tokenizer_pre, force=force, progress=progress
        )
    else:
        size = None if max_shard_size is None else size_of(max_shard_size)
        found = export_huggingface(
            model, out, kind=kind, max_shard_bytes=size, force=force, progress=progress
        )
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else summary(found))


def _check(form: str, max_shard_size: str | None, tokenizer_pre: str | None) -> None:
    """Refuses an option that the format would not heed."""
    wrong = {"gguf": ("--max-shard-size", max_shard_size), "hf": ("--tokenizer-pre", tokenizer_pre)}
    option, value = wrong[form]
    if value is not None:
        raise InputError(f"{option} has no meaning with --format {form}", remedy="leave it out")


def size_of(text: str) -> int:
    """Bytes of a size in words: 2GB, 500 MB, 1GiB; raises InputError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?)?B?\s*", text)
    size = int(float(found[1]) * UNITS[found[2] or ""]) if found else 0
    if size < 1:
        raise InputError(f"--max-shard-size {text!r} is no size", remedy="write it as 2GB or 500MB")
    return size


def summary(found: dict[str, Any]) -> str:
    """What was written, for people."""
    lines = table(
        [
            ("architecture", found["architecture"]),
            ("parameters", f"{found['parameters']:,}"),
            ("weights", found["type"]),
            ("size", amount(found["bytes"], "B")),
        ]
    )
    return "\n".join([lines, *(f"note: {note}" for note in found["notes"]), f"\n{found['out']}"])
