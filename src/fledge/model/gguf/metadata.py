"""``ModelConfig`` <-> the key-value pairs of a GGUF file.  No torch, no tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.rope_layout import yarn_magnitude

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""The architectures of llama.cpp that a ``ModelConfig`` can be."""

SCALING_KEY = "fledge.rope_scaling"
"""Our own key: the Llama-3 scaling that ``rope_freqs.weight`` was made from, as JSON."""

_END_IDS = ("eos", "eot", "eom")
"""GGUF names up to three end tokens: of text, of turn, of message."""


def architecture_of(config: ModelConfig) -> str:
    """The GGUF architecture for a shape; raises InputError naming what none of them has."""
    scaling = config.rope_scaling
    for key, wrong in (
        ("activation", config.activation != "silu"),
        ("gated", not config.gated),
        ("logit_softcap", config.logit_softcap is not None),
        ("qk_norm with attention_bias", config.qk_norm and config.attention_bias),
        ("qk_norm with output_bias", config.qk_norm and config.output_bias),
        ("qk_norm with ffn_bias", config.qk_norm and config.ffn_bias),
        ("rope_scaling.kind = dynamic", scaling is not None and scaling.kind == "dynamic"),
        ("rope_scaling.truncate = False", scaling is not None and not scaling.truncate),
    ):
        if wrong:
            value = getattr(config, key, None)
            raise InputError(
                f"GGUF cannot hold this model: {key}{'' if value is None else f' = {value}'} has"
                f" no place in its architectures {', '.join(ARCHITECTURES)}",
                remedy="use --format hf",
            )
    if config.qk_norm:
        return "qwen3"
    plain = not config.output_bias and not config.ffn_bias
    return "qwen2" if config.attention_bias and plain else "llama"


def to_metadata(config: ModelConfig) -> dict[str, Any]:
    """Key -> value of the shape; raises InputError when GGUF cannot express it."""
    architecture = architecture_of(config)
    values: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.context,
        "embedding_length": config.width,
        "block_count": config.depth,
        "feed_forward_length": config.ffn,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.head_size,
        "rope.freq_base": config.rope_theta,
        **_scaling_values(config),
    }
    if config.window is not None:
        values["attention.sliding_window"] = config.window
        if config.window_layers is not None:
            slides = set(config.window_layers)
            values["attention.sliding_window_pattern"] = [n in slides for n in range(config.depth)]
    metadata = {f"{architecture}.{key}": value for key, value in values.items()}
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        metadata[SCALING_KEY] = json.dumps(config.rope_scaling.model_dump(exclude_defaults=True))
    return metadata


def shape_notes(config: ModelConfig) -> list[str]:
    """What llama.cpp will not do as this model does, in words."""
    notes = []
    if config.window is not None and config.window < config.context:
        notes.append(
            f"llama.cpp ignores the sliding window of this architecture: texts beyond"
            f" {config.window} tokens differ there"
        )
    scaling = config.rope_scaling
    betas = None if scaling is None else (scaling.beta_fast, scaling.beta_slow)
    if scaling is not None and scaling.kind == "yarn" and betas != (32.0, 1.0):
        notes.append("llama.cpp may ignore the beta_fast and beta_slow of this YaRN scaling")
    if len(config.eos_ids) > len(_END_IDS):
        notes.append(f"GGUF names three end tokens; {config.eos_ids[3:]} are left out")
    return notes


def _scaling_values(config: ModelConfig) -> dict[str, Any]:
    """Keys of linear and YaRN scaling; Llama 3 has none, its factors are a tensor."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind == "llama3":
        return {}
    values: dict[str, Any] = {
        "rope.scaling.type": scaling.kind,
        "rope.scaling.factor": scaling.factor,
    }
    if scaling.original_context is not None:
        values["rope.scaling.original_context_length"] = scaling.original_context
    if scaling.kind == "yarn":
        values["rope.scaling.yarn_beta_fast"] = scaling.beta_fast
        values["rope.scaling.yarn_beta_slow"] = scaling.beta_slow
        if scaling.attention_factor is not None:
            # llama.cpp multiplies by this on top of its own 0.1 ln(factor) + 1.
            share = scaling.attention_factor / yarn_magnitude(scaling.factor)
            values["rope.scaling.attn_factor"] = share
    return values


def rope_factors(config: ModelConfig) -> NDArray[np.float32] | None:
    """What Llama 3 divides each frequency by, (d/2,), or None for other scalings.

    As ``meta-llama`` defined it: long wavelengths by ``factor``, short ones by 1, a ramp between.
    """
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "llama3":
        return None
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    wavelengths = 2 * np.pi * np.float64(config.rope_theta) ** exponents.astype(np.float64)
    context = scaling.original_context or config.context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    smooth = np.clip((context / wavelengths - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1 - smooth) / scaling.factor + smooth), dtype=np.float32)


def from_metadata(
    fields: Mapping[str, Any],
    names: Collection[str],
    rope: NDArray[np.float32] | None,
    vocab_size: int,
    path: Path,
) -> ModelConfig:
    """The shape in a file with these ``fields`` and tensors of these (GGUF) ``names``.

    ``rope`` is its ``rope_freqs.weight``, ``vocab_size`` the rows of its embedding.  Raises
    InputError naming the architecture or key that cannot be read.
    """
    keys = _Keys(fields, path)
    heads = keys.number("attention.head_count")
    width = keys.number("embedding_length")
    values: dict[str, Any] = {
        "vocab_size": vocab_size,
        "width": width,
        "depth": keys.number("block_count"),
        "heads": heads,
        "kv_heads": keys.number("attention.head_count_kv", heads),
        "head_size": keys.number("attention.key_length", width // max(heads, 1)),
        "ffn": keys.number("feed_forward_length"),
        "context": keys.number("context_length"),
        "norm_eps": keys.real("attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.real("rope.freq_base", 10_000.0),
        "qk_norm": keys.architecture == "qwen3",
        "tied": "output.weight" not in names,
        "attention_bias": "blk.0.attn_q.bias" in names,
        "output_bias": "blk.0.attn_output.bias" in names,
        "ffn_bias": "blk.0.ffn_down.bias" in names,
        **_window(keys),
        **_tokens(fields),
    }
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.number(key, values["head_size"]) != values["head_size"]:
            raise InputError(
                f"{path}: {keys.architecture}.{key} differs from the key length",
                remedy="such heads are not supported",
            )
    config = parse_config(ModelConfig, values, str(path))
    scaling = _scaling(keys) if rope is None else _llama3(config, fields, rope, path)
    if scaling is None:
        return config
    return parse_config(ModelConfig, {**values, "rope_scaling": scaling}, str(path))


class _Keys:
    """The ``fields`` below the name of their architecture, read as what they must be."""

    def __init__(self, fields: Mapping[str, Any], path: Path) -> None:
        self._fields, self.path = fields, path
        self.architecture = str(fields.get("general.architecture", "none"))
        if self.architecture not in ARCHITECTURES:
            raise InputError(
                f"{path}: GGUF architecture {self.architecture!r} is not supported",
                remedy=f"use one of {', '.join(ARCHITECTURES)}",
            )
        if keys := [key for key in fields if key.endswith(".expert_count") and fields[key]]:
            raise InputError(f"{path}: {keys[0]}: mixtures of experts are not supported")

    def get(self, key: str) -> Any:
        return self._fields.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        if isinstance(value, list) and len(set(value)) == 1:
            value = value[0]  # one value a layer, all the same
        value = default if value is None else value
        if not isinstance(value, int):
            raise self.wrong(key, value)
        return value

    def real(self, key: str, default: float | None = None) -> float:
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, (float, int)) or not math.isfinite(value):
            raise self.wrong(key, value)
        return float(str(np.float32(value)))  # 1e-06, where float32 says 9.99999997e-07

    def wrong(self, key: str, value: Any) -> InputError:
        what = "is missing" if value is None else f"= {value!r} is not supported"
        return InputError(
            f"{self.path}: {self.architecture}.{key} {what}", remedy="convert the model again"
        )


def _window(keys: _Keys) -> dict[str, Any]:
    window = keys.get("attention.sliding_window")
    if not window:
        return {}
    pattern = keys.get("attention.sliding_window_pattern")
    if isinstance(pattern, list):
        layers = tuple(layer for layer, slides in enumerate(pattern) if slides)
        return {"window": window, "window_layers": layers}
    return {"window": window}


def _tokens(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = [fields.get(f"tokenizer.ggml.{name}_token_id") for name in _END_IDS]
    return {
        "bos_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_ids": tuple(dict.fromkeys(token for token in found if token is not None)),
        "pad_id": fields.get("tokenizer.ggml.padding_token_id"),
    }


def special_token_values(config: ModelConfig) -> dict[str, int]:
    """Keys of the beginning, the ends and the padding."""
    ends = {
        f"tokenizer.ggml.{name}_token_id": token
        for name, token in zip(_END_IDS, config.eos_ids, strict=False)
    }
    rest = {
        "tokenizer.ggml.bos_token_id": config.bos_id,
        "tokenizer.ggml.padding_token_id": config.pad_id,
    }
    return ends | {key: token for key, token in rest.items() if token is not None}


def _scaling(keys: _Keys) -> RopeScaling | None:
    kind = keys.get("rope.scaling.type")
    # The second is the name it had in old files; 0 means none.
    factor = keys.real("rope.scaling.factor", 0.0) or keys.real("rope.scale_linear", 0.0)
    if kind == "none" or (kind in (None, "linear") and factor in (0.0, 1.0)):
        return None
    if kind not in (None, "linear", "yarn"):
        raise keys.wrong("rope.scaling.type", kind)
    values: dict[str, Any] = {
        "kind": kind or "linear",
        "factor": factor,
        "original_context": keys.get("rope.scaling.original_context_length"),
    }
    if kind == "yarn":
        values["beta_fast"] = keys.real("rope.scaling.yarn_beta_fast", 32.0)
        values["beta_slow"] = keys.real("rope.scaling.yarn_beta_slow", 1.0)
        if keys.get("rope.scaling.attn_factor") is not None:
            share = keys.real("rope.scaling.attn_factor") * yarn_magnitude(factor)
            values["attention_factor"] = float(str(np.float32(share)))
    return parse_config(RopeScaling, values, f"{keys.path}: {keys.architecture}.rope.scaling")


def _llama3(
    config: ModelConfig, fields: Mapping[str, Any], rope: NDArray[np.float32], path: Path
) -> RopeScaling | None:
    """The Llama-3 scaling that gives these factors; raises InputError when none does.

    The file names none of its numbers.  Ours add them; for others we look for the original
    context among the powers of two, with the ramp all published models have (1 to 4).
    """
    candidates = []
    if SCALING_KEY in fields:
        try:
            own = json.loads(fields[SCALING_KEY])
        except (TypeError, ValueError):
            own = None
        candidates.append(parse_config(RopeScaling, own, f"{path}: {SCALING_KEY}"))
    factor = round(float(rope.max()), 4)
    if factor > 0:
        candidates += [
            RopeScaling(kind="llama3", factor=factor, original_context=2**power)
            for power in (13, *range(4, 21))
        ]
    for scaling in candidates:
        made = rope_factors(config.model_copy(update={"rope_scaling": scaling}))
        if made is not None and made.shape == rope.shape and np.allclose(made, rope, rtol=1e-4):
            return scaling
    if rope.shape == (config.head_size // 2,) and np.all(rope == 1):
        return None
    raise InputError(
        f"{path}: the RoPE factors in rope_freqs.weight are not of Llama 3's form",
        remedy="import the model from its Hugging Face directory",
    )
