"""A model of a few thousand random weights with a real tokenizer, for tests of what uses one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads must not spin

import torch

from fledge.model.checkpoint import save_model
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer

CONTEXT = 96


def pico_texts() -> Iterator[tuple[str, str]]:
    for number in range(60):
        yield "en", f"The Golden Gate Bridge opened in {1900 + number}; its span is 1280 metres."
        yield "zh-Hans", f"金门大桥于{1900 + number}年建成通车，主跨为1280米。"


def write_pico_model(
    run: Path,
    *,
    stage: str = "sft",
    context: int = CONTEXT,
    depth: int = 2,
    vocab_size: int = 420,
) -> Path:
    """Write ``run/<stage>/model`` and its manifest; returns the stage directory."""
    folder = run / stage / "model"
    train_tokenizer(TokenizerConfig(vocab_size=vocab_size), pico_texts, pico_texts, folder)
    tokenizer = Tokenizer.load(folder)
    config = derive(depth, tokenizer.vocab_size, context, width=64, heads=2, kv_heads=1).model_copy(
        update={"eos_ids": (tokenizer.im_end_id, tokenizer.endoftext_id)}
    )
    model = Decoder(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:  # larger than a real start, so that every layer speaks
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
    save_model(model, folder)
    manifest = {"stage": stage, "key": "0", "digest": "0"}
    (run / stage / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return run / stage
