"""LoRA matrices are kept in PEFT's layout; adapters of other models are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fledge.core.errors import FledgeError, InputError
from fledge.model.encoder import Encoder
from fledge.model.encoder_config import EncoderConfig
from fledge.model.encoder_heads import Classifier
from fledge.model.lora import add_lora, lora_layers, merge_lora
from fledge.model.lora_checkpoint import load_lora, save_lora
from fledge.model.lora_config import LoraConfig
from lora_decoder import CONFIGS, VOCAB, ids, shake_lora, tiny_decoder

WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_saved_in_pefts_layout_and_loaded(tmp_path: Path, config: LoraConfig) -> None:
    model = tiny_decoder()
    add_lora(model, config)
    shake_lora(model)
    save_lora(model, tmp_path, config, base="org/base")
    stored = load_file(tmp_path / "adapter_model.safetensors")
    layer = "base_model.model.model.layers.1.mlp.down_proj"
    assert stored[f"{layer}.lora_A.weight"].shape == (config.rank, 48)
    assert stored[f"{layer}.lora_B.weight"].shape == (32, config.rank)
    assert (f"{layer}.lora_magnitude_vector" in stored) == config.dora
    assert len(stored) == 14 * (2 + config.dora)
    values = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert values["peft_type"] == "LORA"
    assert values["task_type"] == "CAUSAL_LM"
    assert values["base_model_name_or_path"] == "org/base"
    assert (values["r"], values["lora_alpha"]) == (config.rank, config.alpha)
    assert (values["use_rslora"], values["use_dora"]) == (config.stabilised, config.dora)
    assert values["target_modules"] == sorted(config.targets)

    other = tiny_decoder()
    loaded = load_lora(other, tmp_path)
    assert loaded == config.model_copy(update={"targets": tuple(sorted(config.targets))})
    assert torch.equal(other(ids()), model(ids()))
    merge_lora(other)
    assert (other(ids()) - model(ids())).abs().max() <= 2e-5


@torch.no_grad()
def test_encoders_and_classifiers_use_berts_names(tmp_path: Path) -> None:
    shape = EncoderConfig(vocab_size=VOCAB, width=16, depth=1, heads=2, ffn=24, context=12)
    config = LoraConfig(rank=2, targets=("q_proj", "down_proj", "classifier"))
    for build, prefix in (
        (lambda: Encoder(shape), ""),
        (lambda: Classifier(shape, ("a", "b")), "bert."),
    ):
        model = build().initialize(0).eval()
        targets = config.targets[: 2 + bool(prefix)]
        add_lora(model, config.model_copy(update={"targets": targets}))
        shake_lora(model)
        save_lora(model, tmp_path, config)
        stems = {name.rpartition(".lora_")[0] for name in load_file(tmp_path / WEIGHTS)}
        expected = {
            f"base_model.model.{prefix}encoder.layer.0.attention.self.query",
            f"base_model.model.{prefix}encoder.layer.0.output.dense",
        }
        assert stems == expected | ({"base_model.model.classifier"} if prefix else set())
        values = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
        assert {f"base_model.model.{name}" for name in values["target_modules"]} == stems
        other = build().initialize(0).eval()
        assert set(load_lora(other, tmp_path).targets) == set(targets)
        assert torch.equal(other(ids()), model(ids()))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    model = tiny_decoder()
    config = LoraConfig(rank=2)
    add_lora(model, config)
    save_lora(model, tmp_path, config)
    return tmp_path


KEY = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{KEY}.lora_B.weight"), r"q_proj\.lora_B\.weight is missing"),
        (
            lambda w: w.update({f"{KEY}.lora_A.weight": torch.zeros(3, 32)}),
            r"has shape \(3, 32\); the model asks for \(2, 32\)",
        ),
        (
            lambda w: w.update({f"{KEY}.lora_A.weight": torch.zeros(2, 32, dtype=torch.int8)}),
            r"q_proj\.lora_A\.weight has type torch\.int8",
        ),
        (
            lambda w: w.update({f"{KEY}.lora_magnitude_vector": torch.zeros(32)}),
            r"lora_magnitude_vector has shape \(32,\)",
        ),
        (lambda w: w.update({"base_model.model.score.weight": torch.zeros(1)}), "has no place"),
        (
            lambda w: w.update({f"{KEY.replace('.0.', '.7.')}.lora_A.weight": torch.zeros(2, 32)}),
            r"layers\.7.* has no place",
        ),
        (lambda w: w.clear(), "holds no tensor"),
    ],
)
def test_adapters_of_other_models_are_refused(
    adapter: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    weights = load_file(adapter / WEIGHTS)
    change(weights)
    save_file(weights, adapter / WEIGHTS)
    model = tiny_decoder()
    with pytest.raises(InputError, match=message):
        load_lora(model, adapter)
    assert not lora_layers(model)  # the model is as it was
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 4}},
        {"fan_in_fan_out": True},
        {"a_method_of_tomorrow": 1},
        {"r": 0},
        {"lora_alpha": None},
    ],
)
def test_what_we_cannot_do_is_refused(adapter: Path, change: dict[str, Any]) -> None:
    file = adapter / "adapter_config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    harmless = {"peft_version": "0.19.0", "layers_to_transform": [0], "loftq_config": {}}
    file.write_text(json.dumps({**values, **harmless}), encoding="utf-8")
    load_lora(tiny_decoder(), adapter)
    file.write_text(json.dumps({**values, **change}), encoding="utf-8")
    with pytest.raises(InputError, match="is not"):
        load_lora(tiny_decoder(), adapter)


def test_truncated_adapter_and_none_at_all(adapter: Path) -> None:
    file = adapter / WEIGHTS
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors cannot be read"):
        load_lora(tiny_decoder(), adapter)
    with pytest.raises(InputError, match="no LoRA to save"):
        save_lora(tiny_decoder(), adapter, LoraConfig())


def test_a_full_disk_leaves_the_former_adapter(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    model, config = tiny_decoder(), LoraConfig(rank=3)
    add_lora(model, config)

    def fails(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("fledge.model.weights.save_file", fails)
    with pytest.raises(FledgeError, match="cannot be written"):
        save_lora(model, adapter, config)
    assert before == {path.name: path.read_bytes() for path in adapter.iterdir()}
