"""Finding, reading and writing checkpoint folders, and what is said when they are broken."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from fledge.core.errors import InputError
from fledge.model.checkpoint import load_config, load_model, save_model
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint

CONFIG = ModelConfig(
    vocab_size=50,
    width=32,
    depth=1,
    heads=2,
    kv_heads=1,
    head_size=16,
    ffn=48,
    context=32,
    bos_id=0,
    eos_ids=(2, 0),
    pad_id=0,
)


def write(folder: Path, seed: int = 0, **options: Any) -> Path:
    save_model(Decoder(CONFIG).initialize(seed), folder, **options)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    model = Decoder(CONFIG).initialize(5)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == CONFIG == load_config(tmp_path)
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    saved = tmp_path / "model.safetensors"
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(
        (tmp_path / "config.json").stat().st_mode
    )


def test_bfloat16_halves_the_file_and_keeps_the_answer(tmp_path: Path) -> None:
    full, half = write(tmp_path / "full"), write(tmp_path / "half", dtype="bfloat16")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    ids = torch.arange(20)[None]
    with torch.no_grad():
        difference = (load_model(full)(ids) - load_model(half)(ids)).abs().max()
        assert load_model(full, dtype="bfloat16")(ids).dtype == torch.float32
    assert 0 < difference < 0.05


def test_stage_and_run_directories_lead_to_the_newest_rung(tmp_path: Path) -> None:
    base = write(tmp_path / "pretrain" / "model", seed=1)
    assert find_checkpoint(tmp_path) == base
    tuned = write(tmp_path / "sft" / "model", seed=2)
    assert find_checkpoint(tmp_path) == tuned
    write(tmp_path / "dpo.partial" / "model", seed=3)  # unfinished: not a rung yet
    assert find_checkpoint(str(tmp_path)) == tuned
    assert find_checkpoint(tmp_path / "pretrain") == base
    assert find_checkpoint(base) == base


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        find_checkpoint(tmp_path / "file")
    with pytest.raises(InputError, match=r"no model in .*config\.json"):
        find_checkpoint(tmp_path)
    (tmp_path / "sft.partial").mkdir()
    with pytest.raises(InputError, match="sft is not finished"):
        find_checkpoint(tmp_path)
    (write(tmp_path / "model") / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not supported"),
        ({"attention_bias": True}, r"q_proj.bias is missing"),
        ({"attention_bias": "yes"}, r"attention_bias = 'yes'"),
        ({"mlp_bias": True}, r"mlp_bias = True is not supported"),
        ({"hidden_act": "tanh"}, "hidden_act = 'tanh'"),
        ({"hidden_act": ["silu"]}, "hidden_act = "),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type = 'longrope'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.factor is missing"),
        ({"rope_scaling": {"type": "llama3", "factor": 2.0}}, "low_freq_factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, r"rope_scaling.factor: .*greater"),
        ({"rope_parameters": {"full_attention": {}}}, "differ between layers"),
        ({"partial_rotary_factor": 0.5}, r"partial_rotary_factor = 0\.5"),
        (
            {"use_sliding_window": True, "sliding_window": 0, "max_window_layers": 0},
            r"config\.json: window: ",
        ),
        ({"layer_types": ["linear_attention"]}, r"layer_types = "),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantized \(gptq\)"),
        ({"architectures": ["FledgeForCausalLM"]}, "decoder is missing"),
        ({"intermediate_size": 64}, r"mlp.gate_proj.weight has shape \(48, 32\)"),
        ({"num_hidden_layers": 2}, r"model.layers.1.* is missing"),
        ({"vocab_size": 51}, r"embed_tokens.weight has shape \(50, 32\)"),
        ({"architectures": ["LlamaForCausalLM"]}, r"_norm.weight has no place"),
        ({"num_key_value_heads": 3}, r"config\.json: kv_heads \(3\) must divide heads \(2\)"),
        ({"hidden_size": "wide"}, r"config\.json: width: .*integer"),
        ({"hidden_size": "wide", "head_dim": None}, r"config\.json: .*wrong type"),
        ({"num_attention_heads": 0, "head_dim": None}, r"config\.json: .*zero"),
        ({"num_attention_heads": [2]}, r"config\.json: heads: .*integer"),
        ({"vocab_size": -1}, r"config\.json: vocab_size: "),
        ({"rms_norm_eps": None}, r"config\.json: norm_eps: "),
        ({"eos_token_id": ["a"]}, r"config\.json: eos_ids\.0: "),
        ({"rope_parameters": "default"}, "rope_parameters is no object"),
        ({"architectures": [["x"]]}, "is not supported"),
        ({"architectures": {"x": 1}}, "is not supported"),
        ({"num_hidden_layers": 10**12}, "config.json describes .* weights, stored are"),
        ({"head_dim": 10**12}, "config.json describes .* weights, stored are"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    edit(write(tmp_path), **changes)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_a_missing_key_and_a_broken_file_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load_model(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="hidden_size is missing"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="not an object"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_model(tmp_path)


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int4"):
        load_model(write(tmp_path), dtype="int4")
