"""A ``Decoder`` and its tokenizer in, one GGUF file out, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.files import replacing
from fledge.core.protocols import Progress, Silent
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.gguf.metadata import (
    architecture_of,
    rope_factors,
    shape_notes,
    special_token_values,
    to_metadata,
)
from fledge.model.gguf.names import ROPE_FACTORS, gguf_name, interleave, turned_heads
from fledge.model.gguf.vocabulary import TokenizerFiles, to_vocabulary

_Kind = gguf.GGMLQuantizationType
_File = gguf.LlamaFileType

KINDS = {
    "f32": (_Kind.F32, _File.ALL_F32),
    "f16": (_Kind.F16, _File.MOSTLY_F16),
    "bf16": (_Kind.BF16, _File.MOSTLY_BF16),
    "q8_0": (_Kind.Q8_0, _File.MOSTLY_Q8_0),
}
"""What matrices can be stored as; vectors stay float32."""

BLOCK = 32
"""Values of a row that share one scale in Q8_0."""

_HALF = float(np.finfo(np.float16).max)
LARGEST = {_Kind.F16: _HALF, _Kind.Q8_0: 127 * _HALF}
"""The largest value of a type; the scales of Q8_0 are halves."""


@dataclass(frozen=True)
class _Plan:
    """A tensor to be written: its GGUF name, the values, their type, the heads to interleave."""

    name: str
    values: Tensor
    kind: Any
    heads: int | None


def write_gguf(
    model: Decoder,
    tokenizer: Path | TokenizerFiles,
    path: Path,
    kind: str = "f16",
    *,
    name: str = "",
    pre: str | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write ``path`` (whole or not at all); returns notes on what a reader should know.

    ``tokenizer`` is a folder or its files, ``kind`` one of ``KINDS``.  ``name`` is what the model
    calls itself, ``pre`` llama.cpp's name of a pre-tokenizer that fledge does not know.  Raises
    InputError for a model, a tokenizer or a weight that cannot be expressed.
    """
    if kind not in KINDS:
        raise InputError(f"type {kind!r} is not known", remedy=f"use one of {', '.join(KINDS)}")
    config = model.config
    metadata = to_metadata(config)
    files = tokenizer if isinstance(tokenizer, TokenizerFiles) else TokenizerFiles.load(tokenizer)
    vocabulary, notes = to_vocabulary(files, config.vocab_size, pre)
    metadata |= {**vocabulary, **_specials(vocabulary, config)}
    plans, plan_notes = _plans(model, kind)
    writer = gguf.GGUFWriter(None, architecture_of(config))
    writer.add_string("general.type", "model")
    writer.add_string("general.name", name or files.folder.resolve().name)
    writer.add_uint32("general.file_type", int(KINDS[kind][1]))
    if kind == "q8_0":
        writer.add_uint32("general.quantization_version", gguf.GGML_QUANT_VERSION)
    for key, value in metadata.items():
        _add(writer, key, value)
    with replacing(path) as temporary:
        _write(writer, plans, temporary, progress or Silent())
    return [*notes, *shape_notes(config), *plan_notes]


def _specials(vocabulary: Mapping[str, Any], config: ModelConfig) -> dict[str, int]:
    """The config's special tokens; a beginning that the tokenizer itself puts down stands."""
    values = special_token_values(config)
    if vocabulary["tokenizer.ggml.add_bos_token"] and "tokenizer.ggml.bos_token_id" in vocabulary:
        values.pop("tokenizer.ggml.bos_token_id", None)
    return values


def _plans(model: Decoder, kind: str) -> tuple[list[_Plan], list[str]]:
    config = model.config
    turned = architecture_of(config) == "llama"
    plans, whole = [], []
    for name, values in model.state_dict().items():
        stored = KINDS[kind][0] if values.ndim > 1 else _Kind.F32
        if stored == _Kind.Q8_0 and values.shape[-1] % BLOCK:
            stored = _Kind.F16
            whole.append(name)
        heads = turned_heads(name, config) if turned else None
        plans.append(_Plan(gguf_name(name), values, stored, heads))
    factors = rope_factors(config)
    if factors is not None:
        plans.append(_Plan(ROPE_FACTORS, torch.from_numpy(factors), _Kind.F32, None))
    note = (
        f"{len(whole)} matrices stay F16: Q8_0 wants rows divisible by {BLOCK} (such as"
        f" {', '.join(whole[:2])})"
    )
    return plans, [note] if whole else []


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """One key-value pair, in GGUF's type for it."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _write(
    writer: gguf.GGUFWriter, plans: list[_Plan], temporary: Path, progress: Progress
) -> None:
    for plan in plans:
        shape, size = _stored(plan)
        writer.add_tensor_info(plan.name, shape, np.dtype(np.float32), size, plan.kind)
    try:
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with progress.bar("writing", sum(_stored(plan)[1] for plan in plans), "B") as bar:
            for plan in plans:
                encoded = _encode(plan)
                writer.write_tensor_data(encoded)
                bar.advance(encoded.nbytes)
    finally:
        writer.close()


def _stored(plan: _Plan) -> tuple[tuple[int, ...], int]:
    """(shape, bytes) of a tensor in the file."""
    block, size = gguf.GGML_QUANT_SIZES[plan.kind]
    return tuple(plan.values.shape), plan.values.numel() // block * size


def _encode(plan: _Plan) -> NDArray[Any]:
    """The values in the type and the order of the file."""
    values = plan.values.detach().to("cpu", torch.float32).contiguous().numpy()
    largest = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(largest):
        raise InputError(f"{plan.name} has values that are no finite numbers", remedy="train again")
    if largest > LARGEST.get(plan.kind, np.inf):
        raise InputError(
            f"{plan.name} has values up to {largest:g}, more than {plan.kind.name} holds",
            remedy="use --type bf16 or f32",
        )
    if plan.heads is not None:
        values = interleave(values, plan.heads)
    encoded: NDArray[Any] = gguf.quants.quantize(values, plan.kind)
    return encoded
