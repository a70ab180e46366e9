"""``config.json`` of Hugging Face <-> ``ModelConfig``: Llama, Mistral, Qwen 2, Qwen 3.  No torch.

A model that none of them expresses has fledge's own layout, which only fledge reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from fledge.core.errors import InputError
from fledge.model.config import ModelConfig
from fledge.model.rope_layout import read_rope, rope_values, scaling_obstacle

Biases = tuple[bool, bool, bool]
"""Whether queries, keys and values, the attention's output, the feed-forward block have biases."""

NO_BIAS: Biases = (False, False, False)


@dataclass(frozen=True, eq=False)
class Layout:
    """What one architecture of transformers can say."""

    architecture: str
    model_type: str
    qk_norm: bool
    biases: tuple[Biases, ...]
    windows: Literal["no layer", "every layer", "any layer"]
    """Where it can have a sliding window."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What transformers takes for keys that are left out."""


_ENDS = {"bos_token_id": 1, "eos_token_id": 2}
_WINDOW = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

LAYOUTS = (
    Layout(
        "LlamaForCausalLM",
        "llama",
        qk_norm=False,
        biases=(NO_BIAS, (True, True, False), (False, False, True), (True, True, True)),
        windows="no layer",
        defaults=_ENDS,
    ),
    Layout(
        "MistralForCausalLM",
        "mistral",
        qk_norm=False,
        biases=(NO_BIAS,),
        windows="every layer",
        defaults={**_ENDS, "num_key_value_heads": 8, "sliding_window": 4096},
    ),
    Layout(
        "Qwen2ForCausalLM",
        "qwen2",
        qk_norm=False,
        biases=((True, False, False),),
        windows="any layer",
        defaults={**_WINDOW, "num_key_value_heads": 32},
    ),
    Layout(
        "Qwen3ForCausalLM",
        "qwen3",
        qk_norm=True,
        biases=(NO_BIAS, (True, True, False)),
        windows="any layer",
        defaults={**_WINDOW, "num_key_value_heads": 32, "head_dim": 128},
    ),
)
"""In the order in which they are chosen."""

OWN, OWN_TYPE = "FledgeForCausalLM", "fledge"

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu2": "relu2",
}
"""Their word -> ours; for several of theirs that mean one, the first is written."""


def layout_of(config: ModelConfig) -> Layout:
    """The layout that says all of ``config``; raises InputError naming what none says."""
    obstacles = {layout: _obstacles(layout, config) for layout in LAYOUTS}
    for layout, found in obstacles.items():
        if not found:
            return layout
    closest = min(LAYOUTS, key=lambda lay: (lay.qk_norm != config.qk_norm, len(obstacles[lay])))
    raise InputError(
        f"no Hugging Face layout expresses this model; {closest.architecture} comes closest, "
        f"but has no {', no '.join(obstacles[closest])}",
        remedy="train a model without that to exchange it",
    )


def _obstacles(layout: Layout, config: ModelConfig) -> list[str]:
    """What the layout cannot say of ``config``."""
    found = []
    if config.qk_norm != layout.qk_norm:
        found.append("normalised queries and keys" if config.qk_norm else "plain queries and keys")
    biases = (config.attention_bias, config.output_bias, config.ffn_bias)
    if biases not in layout.biases:
        words = ("attention_bias", "output_bias", "ffn_bias")
        said = ", ".join(f"{w} = {str(b).lower()}" for w, b in zip(words, biases, strict=True))
        found.append(f"combination {said}")
    windows = _windows(config)
    if any(windows) and layout.windows == "no layer":
        found.append("sliding window")
    if any(windows) and not all(windows) and layout.windows == "every layer":
        found.append("sliding window in some layers only")
    if layout.model_type == "llama" and config.width % config.heads:
        found.append(f"width ({config.width}) that heads ({config.heads}) do not divide")
    if layout.model_type == "qwen2" and config.width != config.heads * config.head_size:
        found.append(f"head_size ({config.head_size}) other than width / heads")
    if not config.gated:
        found.append("feed-forward block without a gate (gated = false)")
    if config.logit_softcap is not None:
        found.append("logit_softcap")
    stretched = config.rope_scaling and scaling_obstacle(config, config.rope_scaling)
    return [*found, stretched] if stretched else found


def _windows(config: ModelConfig) -> list[bool]:
    return [config.window_of(layer) is not None for layer in range(config.depth)]


def to_huggingface(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """``config.json`` in the layout that says all of it; raises InputError when none does."""
    layout = layout_of(config)
    words = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    values: dict[str, Any] = {
        "architectures": [layout.architecture],
        "model_type": layout.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.context,
        **rope_values(config),
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        "hidden_act": words[config.activation],
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": dtype,
        **_special_tokens(config),
    }
    return values | _window_values(config, layout)


def _window_values(config: ModelConfig, layout: Layout) -> dict[str, Any]:
    """The keys that tell the layouts apart."""
    if layout.model_type == "llama":
        return {"mlp_bias": config.ffn_bias}
    windows = _windows(config)
    window = config.window if any(windows) else None
    if layout.model_type == "mistral":
        return {"sliding_window": window}
    if window is None:
        return {"use_sliding_window": False, "sliding_window": None}
    full = windows.index(True)
    return {
        "use_sliding_window": True,
        "sliding_window": window,
        # For readers that know no ``layer_types``: full attention below this layer.
        "max_window_layers": full if all(windows[full:]) else config.depth,
        "layer_types": ["sliding_attention" if near else "full_attention" for near in windows],
    }


def to_own(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """``config.json`` in fledge's own layout, which says everything."""
    shape = config.model_dump(mode="json", exclude_defaults=True)
    return {"architectures": [OWN], "model_type": OWN_TYPE, "decoder": shape, "dtype": dtype}


def generation_config(config: ModelConfig) -> dict[str, Any]:
    """``generation_config.json``: greedy until one of the end tokens."""
    return {"do_sample": False, **_special_tokens(config)}


def _special_tokens(config: ModelConfig) -> dict[str, Any]:
    ends = list(config.eos_ids)
    return {
        "bos_token_id": config.bos_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": config.pad_id,
    }


def from_huggingface(values: Any, path: Path) -> ModelConfig:
    """The ``ModelConfig`` of a ``config.json``; raises InputError for what it cannot express.

    Keys that are left out have the value that transformers gives them.
    """
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    layout = _named_layout(values, path)
    if values.get("quantization_config"):
        method = values["quantization_config"]
        method = method.get("quant_method", "?") if isinstance(method, dict) else method
        raise InputError(
            f"{path}: the weights are quantized ({method})", remedy="use the unquantized checkpoint"
        )
    try:
        if layout is None:
            return ModelConfig.model_validate(values["decoder"])
        return _from_values({**layout.defaults, **values}, layout, path)
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing", remedy="mend the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: {f'{key}: ' if key else ''}{first['msg'].removeprefix('Value error, ')}",
            remedy="mend the file",
        ) from None
    except (TypeError, ArithmeticError) as error:
        raise InputError(
            f"{path}: a value has the wrong type ({error})", remedy="mend the file"
        ) from None


def _named_layout(values: dict[str, Any], path: Path) -> Layout | None:
    """The layout that ``architectures`` names; None for fledge's own."""
    named = values.get("architectures") or ["none"]
    architecture = named[0] if isinstance(named, list) else named
    if architecture == OWN:
        return None
    for layout in LAYOUTS:
        if layout.architecture == architecture:
            return layout
    raise InputError(
        f"{path}: architecture {architecture} is not supported",
        remedy=f"use one of {', '.join(layout.architecture for layout in LAYOUTS)}",
    )


def _from_values(values: dict[str, Any], layout: Layout, path: Path) -> ModelConfig:
    heads, width = values["num_attention_heads"], values["hidden_size"]
    ends = values.get("eos_token_id")
    theta, scaling = read_rope(values, path)
    attention_bias, output_bias, ffn_bias = _biases(values, layout, path)
    window, window_layers = _read_window(values, layout, path)
    fields: dict[str, Any] = {
        "vocab_size": values["vocab_size"],
        "width": width,
        "depth": values["num_hidden_layers"],
        "heads": heads,
        "kv_heads": values.get("num_key_value_heads") or heads,
        "head_size": values.get("head_dim") or width // heads,
        "ffn": values["intermediate_size"],
        "context": values["max_position_embeddings"],
        "qk_norm": layout.qk_norm,
        "tied": values.get("tie_word_embeddings", False),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_eps": values["rms_norm_eps"],
        "activation": _activation(values, path),
        "attention_bias": attention_bias,
        "output_bias": output_bias,
        "ffn_bias": ffn_bias,
        "window": window,
        "window_layers": window_layers,
        "bos_id": values.get("bos_token_id"),
        "eos_ids": tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,),
        "pad_id": values.get("pad_token_id"),
    }
    return ModelConfig.model_validate(fields)


def _activation(values: dict[str, Any], path: Path) -> str:
    word = values.get("hidden_act", "silu")
    if not isinstance(word, str) or word not in ACTIVATIONS:
        raise InputError(
            f"{path}: hidden_act = {word!r} is not supported",
            remedy=f"one of {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[word]


def _biases(values: dict[str, Any], layout: Layout, path: Path) -> Biases:
    """Where biases are: Qwen 2 has its own, Mistral none; the others say it."""
    if len(layout.biases) == 1:
        return layout.biases[0]
    attention, ffn = values.get("attention_bias", False), values.get("mlp_bias", False)
    if (attention, attention, ffn) not in layout.biases:
        raise InputError(
            f"{path}: attention_bias = {attention!r} with mlp_bias = {ffn!r} is not supported",
            remedy=f"{layout.architecture} has no such biases",
        )
    return attention, attention, ffn


def _read_window(
    values: dict[str, Any], layout: Layout, path: Path
) -> tuple[int | None, tuple[int, ...] | None]:
    """The sliding window and the layers that have it (None: all)."""
    if layout.windows == "no layer":
        return None, None
    window, types = values.get("sliding_window"), values.get("layer_types")
    depth = values["num_hidden_layers"]
    known = {"sliding_attention", "full_attention"}
    if types is not None and not (
        isinstance(types, list) and set(types) <= known and len(types) == depth
    ):
        raise InputError(
            f"{path}: layer_types = {types!r} is not supported",
            remedy=f"one of {', '.join(sorted(known))} for each of {depth} layers",
        )
    if layout.windows == "every layer":
        if window is not None and "full_attention" in (types or ()):
            raise InputError(
                f"{path}: layer_types with full attention in a {layout.model_type} model with a "
                "sliding_window is not supported",
                remedy="such a model is no Mistral",
            )
        return window, None
    if not values["use_sliding_window"] or window is None:
        return None, None
    if types is None:
        layers = tuple(range(values["max_window_layers"], depth))
    else:
        layers = tuple(n for n, kind in enumerate(types) if kind == "sliding_attention")
    if not layers:
        return None, None
    return window, None if layers == tuple(range(depth)) else layers
