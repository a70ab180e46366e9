"""Weights in and out: a ``Decoder`` <-> a Hugging Face directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.files import read_json, replacing, write_json
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.layout import from_huggingface, generation_config, to_huggingface
from fledge.model.locate import find_checkpoint

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save_model(model: Decoder, folder: Path, *, dtype: str = "float32") -> None:
    """Write ``config.json``, ``generation_config.json`` and ``model.safetensors`` to ``folder``.

    ``dtype``: "float32", "bfloat16" or "float16".  With a tokenizer beside it the folder opens in
    transformers and vLLM; llama.cpp reads GGUF, to which its own script converts what it knows.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known", remedy=f"use one of {', '.join(DTYPES)}")
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        huggingface_name(name): tensor.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_json(folder / "config.json", to_huggingface(model.config, dtype))
    write_json(folder / "generation_config.json", generation_config(model.config))
    with replacing(folder / "model.safetensors") as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", temporary)  # save_file leaves it to the owner


def load_model(
    path: Path | str, *, dtype: str = "float32", device: torch.device | str = "cpu"
) -> Decoder:
    """The decoder at ``path`` (a Hugging Face, stage or run directory), in evaluation mode.

    Weights are converted to ``dtype``, which is also the type it computes in.  Raises InputError
    naming the file and what is wrong with it.
    """
    folder = find_checkpoint(path)
    config = from_huggingface(read_json(folder / "config.json"), folder / "config.json")
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known", remedy=f"use one of {', '.join(DTYPES)}")
    model = Decoder(config, DTYPES[dtype])
    _fill(model, _read_weights(folder), folder)
    return model.to(device=device, dtype=DTYPES[dtype]).eval()


def load_config(path: Path | str) -> ModelConfig:
    """The shape of the checkpoint at ``path`` (as in ``load_model``)."""
    folder = find_checkpoint(path)
    return from_huggingface(read_json(folder / "config.json"), folder / "config.json")


def huggingface_name(name: str) -> str:
    """Our parameter's name in the Hugging Face layout."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, sharded or not."""
    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if not files[0].is_file():
        weight_map: dict[str, Any] = read_json(index)["weight_map"]
        files = [folder / name for name in sorted(set(weight_map.values()))]
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                weights |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} cannot be read: {error}", remedy="copy it again") from None
    return weights


def _fill(model: Decoder, weights: dict[str, Tensor], folder: Path) -> None:
    """Copy ``weights`` into ``model``; every parameter once, nothing left over."""
    if model.lm_head is None:
        weights.pop("lm_head.weight", None)  # some writers store the tied matrix twice
    weights = {name: t for name, t in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = weights.pop(huggingface_name(name), None)
            if tensor is None or tensor.shape != parameter.shape:
                found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise InputError(
                    f"{folder}: weight {huggingface_name(name)} {found}",
                    remedy=f"config.json asks for shape {tuple(parameter.shape)}",
                )
            parameter.copy_(tensor)
    if weights:
        raise InputError(
            f"{folder}: weight {sorted(weights)[0]} has no place in the model",
            remedy="only the plain Llama and Qwen3 layouts are supported",
        )
