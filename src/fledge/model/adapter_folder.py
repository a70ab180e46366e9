"""A base checkpoint and an adapter folder in; the adapted model, or a merged checkpoint, out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

from torch import nn

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.core.protocols import Progress, Silent
from fledge.model.checkpoint import end_tokens, load_model, save_model
from fledge.model.decoder import Decoder
from fledge.model.importing import check_place, partial_folder
from fledge.model.locate import find_checkpoint
from fledge.model.lora import merge_lora
from fledge.model.lora_checkpoint import load_lora
from fledge.model.lora_config import LoraConfig
from fledge.model.quantized import Method, quantize_linears
from fledge.model.source import TOKENIZER_FILES

NOTE = "fledge_adapter.json"
"""Says what PEFT's files have no place for: in which bits the base was while training."""


def quantize_base(model: nn.Module, how: Method) -> None:
    """Quantize the matrices of a base that will not learn; NF4 with 8-bit scales, as in QLoRA."""
    quantize_linears(model, how, double=how == "nf4")


def note_base(folder: Path, quantized: Method | None) -> None:
    """Note in an adapter's folder how its base was quantized, or that it was not."""
    write_json(folder / NOTE, {"quantize_base": quantized})


def noted_base(folder: Path) -> Method | None:
    """How the base of an adapter was quantized; None where it was not, or nobody says."""
    path = folder / NOTE
    values = read_json(path) if path.is_file() else {}
    how = values.get("quantize_base") if isinstance(values, dict) else values
    if how not in (None, *get_args(Method)):
        raise InputError(
            f"{path}: quantize_base = {how!r} is not known",
            remedy=f"one of {', '.join(get_args(Method))}, null",
        )
    return how


def find_adapter(path: Path | str) -> Path:
    """The folder with ``adapter_config.json`` that ``path`` means: itself, or of a stage."""
    path = Path(path)
    for folder in (path, path / "adapter"):
        if (folder / "adapter_config.json").is_file():
            return folder
    raise InputError(
        f"{path} holds no adapter_config.json",
        remedy="name a folder in PEFT's format, or a stage that was trained with lora",
    )


def load_adapted(base: Path | str, adapter: Path | str) -> tuple[Decoder, LoraConfig]:
    """The model at ``base`` with the adapter around its frozen weights, in evaluation mode.

    The base is quantized where it was so in training, and the end tokens are the adapter's where
    it names any.  Raises InputError when the two do not belong together.
    """
    folder = find_adapter(adapter)
    model = load_model(base)
    how = noted_base(folder)
    if how is not None:
        quantize_base(model, how)
    config = load_lora(model, folder)
    model.config = model.config.model_copy(update=_special_tokens(folder))
    return model.eval(), config


def _special_tokens(folder: Path) -> dict[str, Any]:
    """The end and padding tokens that an adapter brings: it may have learnt to stop."""
    ends = end_tokens(folder)
    if ends is None:
        return {}
    pad = read_json(folder / "generation_config.json").get("pad_token_id")
    return {"eos_ids": ends, **({"pad_id": pad} if type(pad) is int else {})}


def merge_adapter(
    base: Path | str,
    adapter: Path | str,
    out: Path,
    *,
    dtype: str = "float32",
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the adapted model as a plain checkpoint to ``out``; returns what was done.

    Sums are float32; ``dtype`` is the type they are written in.  The tokenizer is the adapter's
    where its folder has one, else the base's.
    """
    progress = progress or Silent()
    source, folder = find_checkpoint(base), find_adapter(adapter)
    check_place(out, source, force=force)
    check_place(out, folder, force=force)
    model, config = load_adapted(source, folder)
    names = merge_lora(model)
    with partial_folder(out) as partial:
        progress.say(f"writing {out}")
        save_model(model, partial, dtype=dtype)
        for name in TOKENIZER_FILES:
            place = folder if (folder / TOKENIZER_FILES[0]).is_file() else source
            if (place / name).is_file():
                shutil.copyfile(place / name, partial / name)
    return {
        "out": str(out),
        "base": str(source),
        "adapter": str(folder),
        "quantize_base": noted_base(folder),
        "rank": config.rank,
        "layers": len(names),
        "parameters": model.config.parameters,
        "type": dtype,
    }
