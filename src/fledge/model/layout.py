"""``config.json`` of Hugging Face <-> ``ModelConfig``: the Qwen3 and Llama layouts.  No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fledge.core.errors import InputError
from fledge.model.config import ModelConfig

ARCHITECTURES = {"Qwen3ForCausalLM": True, "LlamaForCausalLM": False}
"""Architecture -> whether it normalises queries and keys."""


def to_huggingface(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """``config.json``: Qwen3 with normalised queries and keys, Llama without."""
    values: dict[str, Any] = {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": dtype,
        **_special_tokens(config),
    }
    if config.qk_norm:
        values |= {"use_sliding_window": False, "sliding_window": None}
    else:
        values |= {"mlp_bias": False}
    return values


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


def from_huggingface(values: dict[str, Any], path: Path) -> ModelConfig:
    """The ``ModelConfig`` of a ``config.json``; raises InputError for what it cannot express."""
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    named = values.get("architectures") or ["none"]
    architecture = named[0] if isinstance(named, list) else named
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise InputError(
            f"{path}: architecture {architecture} is not supported",
            remedy=f"use one of {', '.join(ARCHITECTURES)}",
        )
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise InputError(f"{path}: rope_parameters is no object", remedy="mend the file")
    kind = rope.get("rope_type", rope.get("type", "default"))
    for key, value, wanted in (
        ("hidden_act", values.get("hidden_act", "silu"), "silu"),
        ("attention_bias", values.get("attention_bias", False), False),
        ("mlp_bias", values.get("mlp_bias", False), False),
        ("use_sliding_window", values.get("use_sliding_window", False), False),
        ("rope_type", kind, "default"),
    ):
        if value != wanted:
            raise InputError(f"{path}: {key} = {value!r} is not supported", remedy=f"only {wanted}")
    try:
        return _from_values(values, ARCHITECTURES[architecture], rope)
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


def _from_values(values: dict[str, Any], qk_norm: bool, rope: dict[str, Any]) -> ModelConfig:
    heads, width = values["num_attention_heads"], values["hidden_size"]
    ends = values.get("eos_token_id")
    return ModelConfig(
        vocab_size=values["vocab_size"],
        width=width,
        depth=values["num_hidden_layers"],
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or heads,
        head_size=values.get("head_dim") or width // heads,
        ffn=values["intermediate_size"],
        context=values["max_position_embeddings"],
        qk_norm=qk_norm,
        tied=values.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta") or values.get("rope_theta") or 10_000.0,
        norm_eps=values["rms_norm_eps"],
        bos_id=values.get("bos_token_id"),
        eos_ids=tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,),
        pad_id=values.get("pad_token_id"),
    )
