"""Every member of the decoder family agrees with transformers, out and back, and with a cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from fledge.model.cache import KVCache
from fledge.model.checkpoint import load_model, save_model
from fledge.model.decoder import Decoder

VOCAB, CONTEXT, LENGTH = 61, 32, 28

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 500.0,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 8,
    "rope_theta": 1000.0,
    "beta_fast": 3.0,
    "beta_slow": 0.3,
}
SLIDING = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "multi-query": ("Llama", {"num_key_value_heads": 1, "head_dim": 12}),
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "gelu": ("Llama", {"hidden_act": "gelu", "mlp_bias": True}),
    "gelu_tanh": ("Llama", {"hidden_act": "gelu_pytorch_tanh"}),
    "relu2": ("Llama", {"hidden_act": "relu2"}),
    "linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.5}}),
    "dynamic": ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
    "yarn": ("Llama", {"rope_parameters": YARN}),
    "yarn-smooth": ("Qwen2", {"rope_parameters": {**YARN, "truncate": False}}),
    "yarn-mscale": (
        "Llama",
        {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4}},
    ),
    "yarn-factor": ("Qwen3", {"rope_parameters": {**YARN, "attention_factor": 1.3}}),
    "smollm": ("Llama", {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 1e5}}),
    "mistral": ("Mistral", {"sliding_window": 6, "head_dim": 12}),
    "mistral-full": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen2-windows": ("Qwen2", {**SLIDING, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 12}),
    "qwen3-biases": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
    "qwen3-windows": ("Qwen3", {**SLIDING, "head_dim": 8, "layer_types": MIXED}),
}


def peer_of(name: str) -> transformers.PreTrainedModel:
    """A model of transformers in which every weight matters."""
    kind, changes = VARIANTS[name]
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "attn_implementation": "eager",
    }
    config = getattr(transformers, f"{kind}Config")(**json.loads(json.dumps({**shape, **changes})))
    peer = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for key, weight in peer.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + noise * 0.3 if "norm" in key else noise * 0.2)
    return peer


def random_ids(rows: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_logits_agree_after_import_and_after_export(tmp_path: Path, name: str) -> None:
    peer = peer_of(name)
    peer.save_pretrained(tmp_path / "theirs")
    ids = random_ids(2, LENGTH)
    expected = peer(ids).logits
    model = load_model(tmp_path / "theirs")
    assert expected.std() > 0.1
    assert largest(model(ids), expected) <= 1e-4

    save_model(model, tmp_path / "ours", exchange=True)
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager"
    ).eval()
    # Without a window, Mistral is a Llama.
    wanted = {"mistral-full": "Llama"}.get(name, VARIANTS[name][0])
    assert type(again).__name__ == f"{wanted}ForCausalLM"
    assert largest(again(ids).logits, expected) <= 1e-4
    assert load_model(tmp_path / "ours").config == model.config


@pytest.mark.parametrize("name", ["linear", "dynamic", "yarn", "llama3"])
@torch.no_grad()
def test_scaled_positions_agree_beyond_the_context(tmp_path: Path, name: str) -> None:
    peer_of(name).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    for length in (70, 5, 50, CONTEXT, CONTEXT + 1):
        ids = random_ids(1, length)
        # A new peer each time: with dynamic NTK theirs remembers the longest row it has read.
        assert largest(model(ids), peer_of(name)(ids).logits) <= 1e-4


@pytest.mark.parametrize("name", ["llama3", "linear", "dynamic", "yarn", "smollm", "qwen2"])
@torch.no_grad()
def test_old_config_keys_mean_the_same(tmp_path: Path, name: str) -> None:
    peer = peer_of(name)
    peer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    rope = values.pop("rope_parameters")
    values["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    values["rope_scaling"] = {"type": kind, **rope} if kind != "default" else None
    values["torch_dtype"] = values.pop("dtype")
    values["head_dim"] = None
    path.write_text(json.dumps(values))
    ids = random_ids(2, LENGTH)
    assert largest(load_model(tmp_path)(ids), peer(ids).logits) <= 1e-4


def decoded(model: Decoder, sequences: Tensor, prompts: list[int], room: int) -> list[Tensor]:
    """Logits of each row after its prompt, read left-padded, and token by token from there."""
    widest, total = max(prompts), sequences.shape[1]
    ids = torch.zeros(len(prompts), widest, dtype=torch.int64)
    positions = torch.full_like(ids, -1)
    for row, length in enumerate(prompts):
        ids[row, widest - length :] = sequences[row, :length]
        positions[row, widest - length :] = torch.arange(length)
    cache = KVCache(len(prompts), room, model.config)
    found = [model(ids, cache=cache, positions=positions)[:, -1]]
    for step in range(total - widest):
        tokens = torch.stack([sequences[r, n + step] for r, n in enumerate(prompts)])
        found.append(model(tokens[:, None], cache=cache)[:, -1])
    stacked = torch.stack(found, 1)
    return [stacked[row] for row in range(len(prompts))]


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_decoding_with_a_cache_equals_reading_all_at_once(tmp_path: Path, name: str) -> None:
    peer_of(name).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    sequences, prompts = random_ids(3, 20), [9, 3, 12]
    rows = decoded(model, sequences, prompts, CONTEXT)
    full = model(sequences)
    for row, (prompt, logits) in enumerate(zip(prompts, rows, strict=True)):
        assert len(logits) == 9
        assert largest(logits, full[row, prompt - 1 : prompt + 8]) <= 1e-4


@torch.no_grad()
def test_a_dynamic_cache_beyond_the_context_has_the_frequencies_of_its_size(
    tmp_path: Path,
) -> None:
    peer_of("dynamic").save_pretrained(tmp_path)
    model = load_model(tmp_path)
    sequences = random_ids(1, 60)
    [logits] = decoded(model, sequences, [7], room=60)
    assert largest(logits, model(sequences)[0, 6:]) <= 1e-4
    assert largest(model(sequences)[:, :20], model(sequences[:, :20])) > 0.01


@torch.no_grad()
def test_packed_documents_read_as_alone_with_windows_and_dynamic_positions(
    tmp_path: Path,
) -> None:
    for name in ("qwen3-windows", "mistral", "dynamic", "yarn"):
        peer_of(name).save_pretrained(tmp_path / name)
        model = load_model(tmp_path / name)
        ids = random_ids(1, CONTEXT)
        segments = torch.arange(CONTEXT)[None] // 11
        alone = torch.cat([model(ids[:, at : at + 11]) for at in (0, 11, 22)], 1)
        assert largest(model(ids, segments), alone) <= 1e-4


@pytest.mark.shared
@torch.no_grad()
def test_a_real_checkpoint_goes_round(fledge_data: Path, tmp_path: Path) -> None:
    source = fledge_data / "checkpoints" / "tinystories-656k"
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        source, attn_implementation="eager"
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    ids = tokenizer("Once upon a time, a girl named Lily had a red ball.", return_tensors="pt")
    ids = ids["input_ids"]
    expected = peer(ids).logits
    model = load_model(source)  # one tied matrix, stored as lm_head.weight
    assert largest(model(ids), expected) <= 1e-4
    save_model(model, tmp_path, max_shard_bytes=600_000, exchange=True)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert torch.equal(load_model(tmp_path)(ids), model(ids))
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager"
    ).eval()
    assert largest(again(ids).logits, expected) <= 1e-4
    assert again.config.eos_token_id == peer.config.eos_token_id == 2
