"""The decoder: its config, its layers, its KV cache, and weights in and out (Hugging Face)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.model.cache import KVCache as KVCache
    from fledge.model.checkpoint import load_model as load_model
    from fledge.model.checkpoint import save_model as save_model
    from fledge.model.config import ModelConfig as ModelConfig
    from fledge.model.config import derive as derive
    from fledge.model.decoder import Decoder as Decoder
    from fledge.model.locate import find_checkpoint as find_checkpoint

__all__ = [
    "Decoder",
    "KVCache",
    "ModelConfig",
    "derive",
    "find_checkpoint",
    "load_model",
    "save_model",
]

__getattr__ = facade(
    __name__,
    {
        "Decoder": "decoder",
        "KVCache": "cache",
        "ModelConfig": "config",
        "derive": "config",
        "find_checkpoint": "locate",
        "load_model": "checkpoint",
        "save_model": "checkpoint",
    },
)
