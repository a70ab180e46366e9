"""LoRA adapters with random weights that change much, for tests of what uses one."""

from __future__ import annotations

from pathlib import Path

import torch

from fledge.model.checkpoint import load_model
from fledge.model.decoder import Decoder
from fledge.model.lora import add_lora, lora_state
from fledge.model.lora_checkpoint import save_lora
from fledge.model.lora_config import LoraConfig

KINDS = {
    "lora": LoraConfig(rank=4, alpha=8),
    "rslora": LoraConfig(rank=9, alpha=12, stabilised=True),
    "dora": LoraConfig(rank=3, alpha=6, dora=True),
    "few layers": LoraConfig(rank=17, alpha=8, targets=("k_proj", "down_proj")),
}


def adapt(model: Decoder, config: LoraConfig, seed: int) -> Decoder:
    """The model with LoRA that changes much; the same for the same seed."""
    add_lora(model, config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in lora_state(model).items():
            if not name.endswith("lora_A"):
                tensor += torch.randn(tensor.shape, generator=generator) * 0.2
    return model


def write_adapter(base: Path, folder: Path, config: LoraConfig, seed: int = 0) -> Path:
    save_lora(adapt(load_model(base), config, seed), folder, config)
    return folder
