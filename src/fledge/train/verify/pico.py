"""A model's config in, the config of a tiny sibling with the same switches out."""

from __future__ import annotations

from typing import Any

from fledge.model.config import ModelConfig

DEPTH, WIDTH, HEAD, FFN, CONTEXT = 2, 32, 16, 48, 32
WINDOW = 6


def pico_config(config: ModelConfig, vocab_size: int | None = None) -> ModelConfig:
    """The same family (norms, biases, activation, grouping, window, RoPE …), tiny in every size.

    ``vocab_size`` None keeps the alphabet, which the user's own tokens need.
    """
    heads = 4
    kv_heads = heads if config.kv_heads == config.heads else 1 if config.kv_heads == 1 else 2
    changes: dict[str, Any] = {
        "vocab_size": vocab_size or config.vocab_size,
        "width": WIDTH,
        "depth": min(config.depth, DEPTH),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": HEAD,
        "ffn": FFN,
        "context": min(config.context, CONTEXT),
    }
    if vocab_size is not None:
        changes |= {"bos_id": None, "eos_ids": (), "pad_id": None}
    if config.window is not None:
        changes["window"] = min(config.window, WINDOW)
    if config.window_layers is not None:
        changes["window_layers"] = tuple(
            layer for layer in config.window_layers if layer < changes["depth"]
        ) or (0,)
    return ModelConfig.model_validate({**config.model_dump(), **changes})
