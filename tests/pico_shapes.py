"""Pico decoders of every shape that GGUF can say, all weights random: for tests of formats."""

from __future__ import annotations

from typing import Any

import torch

from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.decoder import Decoder

BASE: dict[str, Any] = {
    "vocab_size": 420,
    "width": 64,
    "depth": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_size": 16,
    "ffn": 96,
    "context": 128,
    "bos_id": 0,
    "eos_ids": (2, 0),
    "pad_id": 0,
}

LLAMA3 = RopeScaling(kind="llama3", factor=8.0, original_context=32)

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"qk_norm": True, "tied": True},
    "qwen3 untied": {"qk_norm": True, "tied": False, "rope_theta": 1e6},
    "llama": {"qk_norm": False, "tied": True},
    "llama untied": {"qk_norm": False, "tied": False, "norm_eps": 1e-5, "kv_heads": 4},
    "llama biases": {
        "qk_norm": False,
        "attention_bias": True,
        "output_bias": True,
        "ffn_bias": True,
    },
    "llama3": {"qk_norm": False, "rope_theta": 500_000.0, "rope_scaling": LLAMA3},
    "qwen2": {"qk_norm": False, "attention_bias": True, "eos_ids": (2,), "pad_id": None},
    "mistral": {"qk_norm": False, "tied": False, "window": 24},
    "window in some layers": {"qk_norm": True, "window": 24, "window_layers": (1,)},
    "linear": {"qk_norm": False, "rope_scaling": RopeScaling(kind="linear", factor=4.0)},
    "yarn": {
        "qk_norm": True,
        "rope_scaling": RopeScaling(
            kind="yarn", factor=4.0, original_context=32, attention_factor=1.25
        ),
    },
}


def shape(name: str) -> ModelConfig:
    return ModelConfig(**{**BASE, **SHAPES[name]})


def decoder(config: ModelConfig, seed: int = 3) -> Decoder:
    """All weights random, the norms and biases too."""
    model = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return model.eval()
