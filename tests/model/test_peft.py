"""Adapters exchanged with PEFT both ways, over an exported checkpoint: the same logits."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fledge.model.adapter_folder import load_adapted, merge_adapter
from fledge.model.checkpoint import load_model, save_model
from fledge.model.decoder import Decoder
from fledge.model.lora import add_lora
from fledge.model.lora_checkpoint import save_lora
from fledge.model.lora_config import LoraConfig
from fledge.model.token_rows import grow_vocabulary, learn_rows
from lora_decoder import CONFIGS, VOCAB, ids, shake_lora, tiny_decoder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs peft: pip install peft accelerate"
)
TOLERANCE = 1e-4
SHAPES = {
    "qwen3": {"qk_norm": True, "tied": True},
    "llama": {"qk_norm": False, "tied": False},
    "qwen2": {"qk_norm": False, "tied": True, "attention_bias": True},
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The warnings are those of others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_base(folder: Path, shape: str) -> Decoder:
    model = tiny_decoder(**SHAPES[shape])
    save_model(model, folder, exchange=True)
    return model


def their_base(folder: Path, size: int = VOCAB) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if size > VOCAB:
        model.resize_token_embeddings(size)
    return model


@torch.no_grad()
def logits(model: Any, tokens: Tensor) -> Tensor:
    out = model(tokens)
    found: Tensor = out if isinstance(out, Tensor) else out.logits
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"r{c.rank}{c.stabilised:d}{c.dora:d}")
def test_ours_in_theirs(tmp_path: Path, shape: str, config: LoraConfig) -> None:
    from peft import PeftModel

    model = write_base(tmp_path / "base", shape)
    add_lora(model, config)
    shake_lora(model, 0.2)
    save_lora(model, tmp_path / "adapter", config, base=str(tmp_path / "base"))
    theirs = PeftModel.from_pretrained(their_base(tmp_path / "base"), str(tmp_path / "adapter"))
    expected = logits(theirs.eval(), ids())
    assert (logits(model, ids()) - expected).abs().max() <= TOLERANCE
    assert (logits(load_model(tmp_path / "base"), ids()) - expected).abs().max() > 0.1


@pytest.mark.parametrize("shape", ["qwen3", "llama"])
def test_ours_with_new_tokens_in_theirs(tmp_path: Path, shape: str) -> None:
    from peft import PeftModel

    config = CONFIGS[0]
    model = write_base(tmp_path / "base", shape)
    grow_vocabulary(model, VOCAB + 3)
    add_lora(model, config)
    with torch.no_grad():
        for number, part in enumerate(learn_rows(model, range(VOCAB, VOCAB + 3))):
            generator = torch.Generator().manual_seed(number)
            part.rows.add_(torch.randn(part.rows.shape, generator=generator) * 0.3)
    shake_lora(model, 0.2)
    save_lora(model, tmp_path / "adapter", config)
    tokens = ids()
    tokens[:, 3], tokens[:, 7] = VOCAB, VOCAB + 2
    theirs = their_base(tmp_path / "base", VOCAB + 3)
    theirs = PeftModel.from_pretrained(theirs, str(tmp_path / "adapter")).eval()
    assert (logits(model, tokens) - logits(theirs, tokens)).abs().max() <= TOLERANCE


THEIRS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"r": 8, "lora_alpha": 4, "use_rslora": True, "target_modules": "all-linear"},
    "dora": {"r": 3, "lora_alpha": 9, "use_dora": True, "target_modules": ["o_proj", "up_proj"]},
    "one layer": {"r": 2, "target_modules": ["down_proj"], "layers_to_transform": [1]},
    "tokens": {"r": 2, "target_modules": ["k_proj"], "trainable_token_indices": [5, 1]},
}


@pytest.mark.parametrize("shape", ["qwen3", "llama"])
@pytest.mark.parametrize("kind", THEIRS)
def test_theirs_in_ours(tmp_path: Path, shape: str, kind: str) -> None:
    from peft import LoraConfig as TheirConfig
    from peft import get_peft_model

    write_base(tmp_path / "base", shape)
    config = TheirConfig(task_type="CAUSAL_LM", **THEIRS[kind])
    theirs = get_peft_model(their_base(tmp_path / "base"), config).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    expected = logits(theirs, ids())
    adapted, _ = load_adapted(tmp_path / "base", tmp_path / "adapter")
    assert (logits(adapted, ids()) - expected).abs().max() <= TOLERANCE
    merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert (logits(load_model(tmp_path / "merged"), ids()) - expected).abs().max() <= TOLERANCE
    assert (logits(load_model(tmp_path / "base"), ids()) - expected).abs().max() > 0.01
