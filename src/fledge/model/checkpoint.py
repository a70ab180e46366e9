"""Weights in and out: a ``Decoder`` <-> a Hugging Face directory."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.files import read_json, replacing, write_json
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.layout import (
    from_huggingface,
    generation_config,
    layout_of,
    to_huggingface,
    to_own,
)
from fledge.model.locate import find_checkpoint
from fledge.model.stored import INDEX, SINGLE, StoredTensors
from fledge.model.weights import (
    DTYPES,
    check_dtype,
    check_size,
    check_sources,
    place,
    weights_file,
)

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

QUANTIZED = re.compile(r"\.(qweight|qzeros|scales|g_idx|weight_scale|weight_scale_inv|SCB|absmax)$")
"""Names that quantized checkpoints give what stands beside their numbers."""


def save_model(
    model: Decoder,
    folder: Path,
    *,
    dtype: str = "float32",
    max_shard_bytes: int | None = None,
    exchange: bool = False,
) -> None:
    """Write ``config.json``, ``generation_config.json`` and the weights to ``folder``.

    ``dtype``: "float32", "bfloat16" or "float16".  The layout is the first of Llama, Mistral,
    Qwen 2 and Qwen 3 that says all of the model: with a tokenizer beside it the folder opens in
    transformers and vLLM.  Where none does, it is fledge's own, or with ``exchange`` refused.
    More than ``max_shard_bytes`` of weights become several files with an index.

    All files are complete before the first takes its place: a full disk leaves a former
    checkpoint as it was.  Raises InputError for a model whose layers were replaced (LoRA,
    quantized), FledgeError when the disk does not take it.
    """
    check_dtype(dtype)
    if exchange:
        layout_of(model.config)
    weights = {huggingface_name(name): tensor for name, tensor in model.state_dict().items()}
    _check_plain(model, weights)
    shards = _shards(weights, DTYPES[dtype], max_shard_bytes)
    names = _shard_names(len(shards))
    config = folder / "config.json"
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Files take their places in the reverse order: the index last.
        if len(shards) > 1:
            index = stack.enter_context(replacing(folder / INDEX))
            write_json(index, _index(weights, DTYPES[dtype], shards, names))
        written = []
        for shard, name in zip(shards, names, strict=True):
            part = {key: weights[key] for key in shard}
            written.append(stack.enter_context(weights_file(part, DTYPES[dtype], folder / name)))
        write_json(config, _config_values(model.config, dtype))
        write_json(folder / "generation_config.json", generation_config(model.config))
        for path in written:
            shutil.copymode(config, path)  # save_file leaves it to the owner
    _remove_former(folder, {*names, INDEX} if len(shards) > 1 else {*names})


def load_model(
    path: Path | str, *, dtype: str = "float32", device: torch.device | str = "cpu"
) -> Decoder:
    """The decoder at ``path`` (a Hugging Face, stage or run directory), in evaluation mode.

    Weights are converted to ``dtype``, which is also the type it computes in; "auto" keeps the
    types they are stored in.  They are read tensor by tensor: memory holds one copy.  Raises
    InputError naming the file, the tensor or key, and what is wrong with it.
    """
    if dtype != "auto":
        check_dtype(dtype)
    folder = find_checkpoint(path)
    config = _read_config(folder)
    with StoredTensors(folder) as stored:
        check_size(config.parameters, stored)
        with torch.device("meta"):  # no memory yet
            model = Decoder(config)
        sources = _sources(model, stored)
        types = {name: stored.dtype(source) for name, source in sources.items()}
        for name, source in sources.items():
            wanted = types[name] if dtype == "auto" else DTYPES[dtype]
            # A copy in any case: what stays mapped would change with the file.
            tensor = stored.read(source).to(device, wanted, copy=True)
            place(model, name, tensor)
    matrices = [types[name] for name in sources if model.get_parameter(name).ndim == 2]
    model.compute_dtype = (
        reduce(torch.promote_types, matrices) if dtype == "auto" else DTYPES[dtype]
    )
    model.cos, model.sin = model.cos.to(device), model.sin.to(device)
    return model.eval()


def load_config(path: Path | str) -> ModelConfig:
    """The shape of the checkpoint at ``path`` (as in ``load_model``)."""
    return _read_config(find_checkpoint(path))


def huggingface_name(name: str) -> str:
    """Our parameter's name in the Hugging Face layout."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _read_config(folder: Path) -> ModelConfig:
    """``config.json``, with the end tokens that ``generation_config.json`` names, if it does.

    Chat models of others stop at more tokens than their ``config.json`` says.
    """
    config = from_huggingface(read_json(folder / "config.json"), folder / "config.json")
    ends = end_tokens(folder)
    return config if ends is None else config.model_copy(update={"eos_ids": ends})


def end_tokens(folder: Path) -> tuple[int, ...] | None:
    """The end tokens that ``generation_config.json`` in ``folder`` names; None where none does."""
    path = folder / "generation_config.json"
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    ends = values.get("eos_token_id")
    if ends is None:
        return None
    ends = ends if isinstance(ends, list) else [ends]
    if not all(type(end) is int for end in ends):
        raise InputError(f"{path}: eos_token_id = {ends!r} is not valid", remedy="mend the file")
    return tuple(ends)


def _sources(model: Decoder, stored: StoredTensors) -> dict[str, str]:
    """The stored tensor for each parameter; every one once, of its shape, nothing left over."""
    sources = {name: huggingface_name(name) for name, _ in model.named_parameters()}
    used = set(sources.values())
    if model.lm_head is None and HEAD in stored:  # the tied matrix, once or twice
        used.add(HEAD)
        if EMBEDDING not in stored:
            sources["embed_tokens.weight"] = HEAD
        elif not _same(stored, HEAD, EMBEDDING):
            raise InputError(
                f"{stored.file(HEAD)}: {HEAD} differs from {EMBEDDING}, but config.json ties them",
                remedy='set "tie_word_embeddings": false there',
            )
    check_sources(model, stored, sources)
    left = [n for n in stored.names if n not in used and not n.endswith("rotary_emb.inv_freq")]
    if left:
        quantized = next((name for name in left if QUANTIZED.search(name)), None)
        raise InputError(
            f"{stored.file(left[0])}: tensor {quantized or left[0]} has no place in the model",
            remedy="use the checkpoint that is not quantized"
            if quantized
            else f"config.json describes a model without it, or not all of it ({len(left)} such)",
        )
    return sources


def _same(stored: StoredTensors, one: str, other: str) -> bool:
    """Whether two stored tensors are equal."""
    if stored.shape(one) != stored.shape(other) or stored.dtype(one) != stored.dtype(other):
        return False
    return torch.equal(stored.read(one), stored.read(other))


def _check_plain(model: Decoder, weights: dict[str, Tensor]) -> None:
    """Raise InputError unless the weights are those of a decoder of this config."""
    with torch.device("meta"):
        names = {huggingface_name(name) for name in Decoder(model.config).state_dict()}
    strange = sorted(names ^ weights.keys())
    if strange:
        raise InputError(
            f"the model cannot be saved: {strange[0]} is not what its config describes",
            remedy="merge LoRA and undo quantization first",
        )


def _config_values(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """``config.json``: of a Hugging Face layout where one says it all, else our own."""
    try:
        return to_huggingface(config, dtype)
    except InputError:
        return to_own(config, dtype)


def _bytes(tensor: Tensor, dtype: torch.dtype) -> int:
    return tensor.numel() * dtype.itemsize


def _shards(
    weights: dict[str, Tensor], dtype: torch.dtype, limit: int | None
) -> Sequence[list[str]]:
    """Names of the tensors of each file, in order, at most ``limit`` bytes (or one tensor)."""
    if limit is not None and limit < 1:
        raise InputError(f"max_shard_bytes = {limit} is not valid", remedy="give 1 or more")
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in weights.items():
        size += _bytes(tensor, dtype)
        if limit is not None and size > limit and shards[-1]:
            shards.append([])
            size = _bytes(tensor, dtype)
        shards[-1].append(name)
    return shards


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _index(
    weights: dict[str, Tensor],
    dtype: torch.dtype,
    shards: Sequence[list[str]],
    names: Sequence[str],
) -> dict[str, Any]:
    placed = {key: name for shard, name in zip(shards, names, strict=True) for key in shard}
    total = sum(_bytes(tensor, dtype) for tensor in weights.values())
    return {"metadata": {"total_size": total}, "weight_map": placed}


def _remove_former(folder: Path, kept: set[str]) -> None:
    """Delete the weights of a former checkpoint that was cut into other files."""
    pattern = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and path.name not in kept:
            path.unlink()
