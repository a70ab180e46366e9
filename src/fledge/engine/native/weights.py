"""The tensors of a Hugging Face folder into the packed matrices of the kernels.  No torch."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.engine.native.library import Role
from fledge.engine.native.tensors import Stored, open_tensors
from fledge.model.config import ModelConfig
from fledge.model.layout import from_huggingface
from fledge.model.locate import find_checkpoint

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Place:
    """Where a tensor belongs."""

    name: str
    role: Role
    layer: int
    shape: tuple[int, ...]


def places(config: ModelConfig) -> Iterator[Place]:
    """All tensors that a model of this config has, in the Hugging Face layout's names."""
    width, table = config.width, (config.vocab_size, config.width)
    yield Place(EMBEDDING, Role.EMBEDDING, 0, table)
    yield Place(EMBEDDING if config.tied else HEAD, Role.HEAD, 0, table)
    yield Place("model.norm.weight", Role.NORM, 0, (width,))
    for layer in range(config.depth):
        yield from _layer(config, layer)


def _layer(config: ModelConfig, layer: int) -> Iterator[Place]:
    prefix, width, size = f"model.layers.{layer}", config.width, config.head_size
    inner, outer, ffn = config.heads * size, config.kv_heads * size, config.ffn
    matrices = [
        ("self_attn.q_proj", Role.Q, (inner, width), config.attention_bias),
        ("self_attn.k_proj", Role.K, (outer, width), config.attention_bias),
        ("self_attn.v_proj", Role.VALUE, (outer, width), config.attention_bias),
        ("self_attn.o_proj", Role.OUT, (width, inner), config.output_bias),
        ("mlp.up_proj", Role.UP, (ffn, width), config.ffn_bias),
        ("mlp.down_proj", Role.DOWN, (width, ffn), config.ffn_bias),
    ]
    if config.gated:
        matrices.append(("mlp.gate_proj", Role.GATE, (ffn, width), config.ffn_bias))
    for name, role, shape, biased in matrices:
        yield Place(f"{prefix}.{name}.weight", role, layer, shape)
        if biased:
            yield Place(f"{prefix}.{name}.bias", role, layer, shape[:1])
    yield Place(f"{prefix}.input_layernorm.weight", Role.NORM1, layer, (width,))
    yield Place(f"{prefix}.post_attention_layernorm.weight", Role.NORM2, layer, (width,))
    if config.qk_norm:
        yield Place(f"{prefix}.self_attn.q_norm.weight", Role.Q_NORM, layer, (size,))
        yield Place(f"{prefix}.self_attn.k_norm.weight", Role.K_NORM, layer, (size,))


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose tensors are those that its config asks for."""

    config: ModelConfig
    stored: Mapping[str, Stored]


def open_checkpoint(path: Path | str) -> Opened:
    """A Hugging Face, stage or run directory; raises InputError naming what is wrong with it."""
    folder = find_checkpoint(path)
    config = from_huggingface(read_json(folder / "config.json"), folder / "config.json")
    return Opened(config, check_weights(open_tensors(folder), config, folder))


def check_weights(stored: dict[str, Stored], config: ModelConfig, where: Path) -> dict[str, Stored]:
    """The tensors; raises InputError unless they are those of the config."""
    if config.tied and EMBEDDING not in stored and HEAD in stored:  # one of the two is enough
        stored = {**stored, EMBEDDING: stored[HEAD]}
    wanted = {place.name: place for place in places(config)}
    for name, place in wanted.items():
        if name not in stored:
            raise InputError(
                f"{where}: tensor {name} is missing",
                remedy=f"config.json asks for it, of shape {place.shape}",
            )
        if stored[name].shape != place.shape:
            raise InputError(
                f"{stored[name].file}: tensor {name} has shape {stored[name].shape}",
                remedy=f"config.json asks for shape {place.shape}",
            )
    if config.tied and HEAD in stored:
        _check_tied(stored)
    left = sorted(stored.keys() - wanted.keys() - ({HEAD} if config.tied else set()))
    left = [name for name in left if not name.endswith("rotary_emb.inv_freq")]
    if left:
        raise InputError(
            f"{stored[left[0]].file}: tensor {left[0]} is nothing that config.json describes",
            remedy="mend config.json, or use the checkpoint that is not quantized",
        )
    return stored


def _check_tied(stored: Mapping[str, Stored]) -> None:
    one, other = stored[EMBEDDING], stored[HEAD]
    if one.shape != other.shape or not np.array_equal(one.floats(), other.floats()):
        raise InputError(
            f"{other.file}: {HEAD} differs from {EMBEDDING}, but config.json ties them",
            remedy='set "tie_word_embeddings": false there',
        )


def fill(
    library: ctypes.CDLL,
    model: int,
    config: ModelConfig,
    stored: Mapping[str, Stored],
    threads: int,
) -> None:
    """Pack all weights: matrices side by side, since the packing is C++ without the GIL."""

    def pack(place: Place) -> None:
        tensor = stored[place.name]
        library.fledge_set_matrix(
            model,
            place.role,
            place.layer,
            tensor.numbers.ctypes.data,
            tensor.is_bfloat16,
            *place.shape,
        )

    everything = list(places(config))
    for place in everything:
        if len(place.shape) == 1:
            values = np.ascontiguousarray(stored[place.name].floats())
            library.fledge_set_vector(
                model, place.role, place.layer, values.ctypes.data, values.size
            )
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(pack, [place for place in everything if len(place.shape) == 2]):
            pass
