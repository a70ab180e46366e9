"""A checkpoint from anywhere in, a Hugging Face directory or a GGUF file for others out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.protocols import Progress, Silent
from fledge.model.checkpoint import save_model
from fledge.model.decoder import Decoder
from fledge.model.encoder_checkpoint import save_encoder
from fledge.model.gguf.write import write_gguf
from fledge.model.importing import (
    check_place,
    check_weights,
    describe,
    losses,
    partial_folder,
)
from fledge.model.source import Source, open_source

TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""The short name of a type -> torch's; GGUF has "q8_0" besides."""


def export_huggingface(
    path: Path | str,
    out: Path,
    *,
    kind: str | None = None,
    max_shard_bytes: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the checkpoint at ``path`` as a directory that transformers opens; what was written.

    ``kind``: one of ``TYPES``; None keeps the type of the weights.  Raises InputError for a model
    that no architecture of transformers is.
    """
    progress = progress or Silent()
    source = open_source(path)
    if kind not in (None, *TYPES):
        raise InputError(
            f"type {kind!r} is none of a Hugging Face directory",
            remedy=f"use one of {', '.join(TYPES)}",
        )
    check_place(out, source.path, force=force)
    dtype = TYPES[kind] if kind else source.dtype
    model = source.load(dtype, progress)
    notes = [*check_weights(model, progress), *losses(source, model, dtype)]
    with partial_folder(out) as partial:
        progress.say(f"writing {out}")
        if isinstance(model, Decoder):
            save_model(model, partial, dtype=dtype, max_shard_bytes=max_shard_bytes, exchange=True)
        else:
            if max_shard_bytes is not None:
                notes.append("encoders are written in one file: the size of shards is not used")
            save_encoder(model, partial, dtype=dtype)  # type: ignore[arg-type]
        source.copy_rest(partial)
    return _report("hf", out, dtype, source, model, notes)


def export_gguf(
    path: Path | str,
    out: Path,
    *,
    kind: str | None = None,
    pre: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the checkpoint at ``path`` as a GGUF file; what was written.

    ``kind``: a type of ``TYPES`` or "q8_0"; None is "f16".  ``pre``: llama.cpp's name of the
    pre-tokenizer, where fledge knows none.  Raises InputError for what GGUF cannot hold.
    """
    progress = progress or Silent()
    source = open_source(path)
    check_place(out, source.path, force=force, file=True)
    if source.kind == "encoder":
        raise InputError(
            f"{path}: {source.architecture} is not written as GGUF yet", remedy="use --format hf"
        )
    # Of several types the widest: vectors stay float32 in the file.
    model = source.load("float32" if len(source.stored) > 1 else source.dtype, progress)
    if not isinstance(model, Decoder):
        raise TypeError(type(model))
    kind = kind or "f16"
    notes = write_gguf(
        model, source.tokenizer(), out, kind, name=model_name(source), pre=pre, progress=progress
    )
    return _report("gguf", out, kind, source, model, notes)


def model_name(source: Source) -> str:
    """What a model calls itself: "bridges-sft" for runs/bridges/sft/model, or its folder's name."""
    path = source.path.resolve()
    if path.name != "model":
        return path.stem if source.kind == "gguf" else path.name
    return f"{path.parent.parent.name}-{path.parent.name}".strip("-")


def _report(
    form: str, out: Path, kind: str, source: Source, model: Any, notes: list[str]
) -> dict[str, Any]:
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    return {
        "format": form,
        "out": str(out),
        "type": kind,
        "bytes": sum(file.stat().st_size for file in files),
        "architecture": source.architecture,
        "parameters": describe(model)["parameters"],
        "notes": notes,
    }
