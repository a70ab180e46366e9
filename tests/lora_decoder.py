"""A pico decoder, tokens for it, and the configs of LoRA that its tests try."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.lora import lora_state
from fledge.model.lora_config import LoraConfig

VOCAB = 31


def tiny_decoder(**changes: object) -> Decoder:
    shape: dict[str, object] = {
        "vocab_size": VOCAB,
        "width": 32,
        "depth": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 8,
        "ffn": 48,
        "context": 16,
        "tied": False,
    }
    model = Decoder(ModelConfig.model_validate({**shape, **changes}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * 0.15 if weight.ndim == 2 else weight + noise * 0.1)
    return model.eval()


def ids(rows: int = 3, seed: int = 1) -> Tensor:
    return torch.randint(0, VOCAB, (rows, 12), generator=torch.Generator().manual_seed(seed))


def shake_lora(model: nn.Module, size: float = 0.1) -> None:
    """Matrices as after training: none is zero."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for tensor in lora_state(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * size)


CONFIGS = [
    LoraConfig(rank=3, alpha=6),
    LoraConfig(rank=4, alpha=6, stabilised=True),
    LoraConfig(rank=2, alpha=5, dora=True),
    LoraConfig(rank=9, alpha=9, dora=True, stabilised=True),
]
