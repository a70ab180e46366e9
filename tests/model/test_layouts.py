"""``config.json`` says all of a model's shape, or the model is not exchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.layout import from_huggingface, layout_of, to_huggingface, to_own

PATH = Path("config.json")
SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "width": 32,
    "depth": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_size": 8,
    "ffn": 48,
    "context": 64,
    "qk_norm": False,
    "tied": False,
}


def config_of(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({**SHAPE, **changes})


def parsed(values: dict[str, Any]) -> ModelConfig:
    """As read from a file."""
    return from_huggingface(json.loads(json.dumps(values)), PATH)


ratios = st.floats(0.5, 64, allow_nan=False)
originals = st.none() | st.integers(65, 4096)


@st.composite
def scalings(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["linear", "dynamic", "llama3", "yarn"]))
    fields: dict[str, Any] = {"kind": kind, "factor": draw(ratios)}
    if kind == "llama3":
        fields["low_frequency_factor"] = draw(st.floats(0.1, 2))
        fields["high_frequency_factor"] = draw(st.floats(2.5, 9))
    if kind == "yarn":
        fields["beta_slow"], fields["beta_fast"] = draw(st.floats(0.1, 4)), draw(st.floats(4, 64))
        fields["attention_factor"] = draw(st.none() | st.floats(0.1, 3))
        fields["truncate"] = draw(st.booleans())
    if kind != "linear":  # which has none
        fields["original_context"] = draw(originals)
    return fields


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any valid config, in the one form of several that mean the same."""
    depth, kv_heads, groups = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
    )
    booleans = st.booleans()
    window = draw(st.none() | st.integers(1, 99))
    layers = None
    if depth > 1 and window is not None and draw(st.booleans()):
        layers = draw(st.sets(st.integers(0, depth - 1), min_size=1, max_size=depth - 1))
    return ModelConfig(
        vocab_size=draw(st.integers(1, 200_000)),
        width=draw(st.sampled_from([kv_heads * groups * 8, 60])),
        depth=depth,
        heads=kv_heads * groups,
        kv_heads=kv_heads,
        head_size=draw(st.sampled_from([8, 8, 12])),
        ffn=draw(st.integers(1, 999)),
        context=64,
        qk_norm=draw(booleans),
        tied=draw(booleans),
        rope_theta=draw(st.floats(2, 1e7)),
        rope_scaling=draw(st.none() | scalings().map(RopeScaling.model_validate)),
        norm_eps=draw(st.floats(1e-12, 1e-3)),
        activation=draw(st.sampled_from(["silu", "gelu", "gelu_tanh", "relu2"])),
        gated=draw(st.sampled_from([True, True, True, False])),
        attention_bias=draw(booleans),
        output_bias=draw(booleans),
        ffn_bias=draw(st.sampled_from([False, False, True])),
        window=window,
        window_layers=None if layers is None else tuple(sorted(layers)),
        logit_softcap=draw(st.sampled_from([None, None, None, 30.0])),
        bos_id=draw(st.none() | st.integers(0, 9)),
        eos_ids=tuple(draw(st.lists(st.integers(0, 9), max_size=3))),
        pad_id=draw(st.none() | st.integers(0, 9)),
    )


@given(config=configs())
@settings(max_examples=300, deadline=None)
def test_what_a_layout_expresses_comes_back_as_it_was(config: ModelConfig) -> None:
    try:
        layout = layout_of(config)
    except InputError:
        assume(False)
    values = to_huggingface(config, "float32")
    assert values["architectures"] == [layout.architecture]
    assert parsed(values) == config


@given(config=configs())
@settings(max_examples=100, deadline=None)
def test_our_own_layout_expresses_everything(config: ModelConfig) -> None:
    assert parsed(to_own(config, "float32")) == config


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({}, "Llama"),
        ({"attention_bias": True, "output_bias": True}, "Llama"),
        ({"ffn_bias": True}, "Llama"),
        ({"window": 7}, "Mistral"),
        ({"width": 30}, "Mistral"),  # transformers refuses Llamas that heads do not divide
        ({"attention_bias": True}, "Qwen2"),
        ({"attention_bias": True, "window": 7, "window_layers": (1,)}, "Qwen2"),
        ({"qk_norm": True}, "Qwen3"),
        ({"qk_norm": True, "window": 7, "window_layers": (0, 2), "width": 30}, "Qwen3"),
        ({"qk_norm": True, "attention_bias": True, "output_bias": True}, "Qwen3"),
        ({"window": 7, "window_layers": ()}, "Llama"),  # a window nowhere is none
        ({"activation": "relu2"}, "Llama"),
    ],
)
def test_the_layout_is_the_one_that_says_it_all(changes: dict[str, Any], architecture: str) -> None:
    assert layout_of(config_of(**changes)).architecture == f"{architecture}ForCausalLM"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"logit_softcap": 30.0}, "logit_softcap"),
        ({"gated": False, "activation": "relu2"}, "gated = false"),
        ({"output_bias": True}, "attention_bias = false, output_bias = true"),
        ({"qk_norm": True, "ffn_bias": True}, "ffn_bias = true"),
        ({"window": 7, "window_layers": (1,)}, "sliding window"),
        ({"window": 7, "attention_bias": True, "output_bias": True}, "combination|sliding window"),
        ({"attention_bias": True, "head_size": 12}, r"head_size \(12\)|combination"),
        (
            {"rope_scaling": {"kind": "dynamic", "factor": 2, "original_context": 16}},
            "original_context",
        ),
    ],
)
def test_what_no_layout_expresses_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"no Hugging Face layout.*({named})"):
        to_huggingface(config_of(**changes), "float32")


def keys(architecture: str, **changes: Any) -> dict[str, Any]:
    """A ``config.json`` with the keys that no reader can do without."""
    return {
        "architectures": [f"{architecture}ForCausalLM"],
        "vocab_size": 50,
        "hidden_size": 64,
        "num_hidden_layers": 30,
        "num_attention_heads": 32,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        **changes,
    }


def test_keys_left_out_mean_what_transformers_takes_for_them() -> None:
    llama, mistral = parsed(keys("Llama")), parsed(keys("Mistral"))
    assert (llama.kv_heads, llama.head_size, llama.bos_id, llama.eos_ids) == (32, 2, 1, (2,))
    assert not llama.tied
    assert llama.rope_theta == 10_000
    assert (mistral.kv_heads, mistral.window) == (8, 4096)
    assert parsed(keys("Mistral", sliding_window=None)).window is None
    qwen2, qwen3 = parsed(keys("Qwen2")), parsed(keys("Qwen3"))
    assert (qwen2.attention_bias, qwen2.output_bias, qwen2.window) == (True, False, None)
    assert (qwen2.bos_id, qwen2.eos_ids, qwen3.head_size) == (None, (), 128)
    assert parsed(keys("Qwen3", use_sliding_window=True)).window_layers == (28, 29)
    assert parsed(keys("Qwen2", use_sliding_window=True, max_window_layers=30)).window is None
    everywhere = parsed(keys("Qwen2", use_sliding_window=True, max_window_layers=0))
    assert (everywhere.window, everywhere.window_layers) == (4096, None)


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_theta": 5e5}, (5e5, None)),
        ({"rope_parameters": {"rope_theta": 7.0}}, (7.0, None)),
        ({"rope_scaling": None, "rope_theta": 7}, (7.0, None)),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, (1e4, ("linear", None))),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_fast": 0}},
            (1e4, ("yarn", None)),
        ),
        (
            {
                "rope_scaling": {"type": "yarn", "factor": 2},
                "original_max_position_embeddings": 32,
            },
            (1e4, ("yarn", 32)),
        ),
    ],
)
def test_old_and_new_rope_keys(
    rope: dict[str, Any], expected: tuple[float, tuple[str, int | None] | None]
) -> None:
    config = parsed(keys("Llama", **rope))
    scaling = config.rope_scaling
    assert config.rope_theta == expected[0]
    assert (scaling and (scaling.kind, scaling.original_context)) == expected[1]


def test_yarn_takes_its_factor_from_the_two_lengths() -> None:
    rope = {"rope_type": "yarn", "original_max_position_embeddings": 16, "factor": None}
    scaling = parsed(keys("Llama", rope_parameters=rope)).rope_scaling
    assert scaling is not None
    assert scaling.factor == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (keys("Mistral", layer_types=["full_attention"] * 30), "is no Mistral"),
        (keys("Qwen3", layer_types=["full_attention"] * 29), "for each of 30 layers"),
        (keys("MixtralMoe"), "architecture MixtralMoeForCausalLM is not supported"),
        (keys("Llama", attention_bias=None), "attention_bias = None"),
        (keys("Qwen2", use_sliding_window=True, layer_types=[{}]), "wrong type|layer_types"),
        (keys("Qwen2", use_sliding_window=True, max_window_layers=-1), "window_layers"),
        (keys("Llama", rope_scaling={"type": "yarn", "factor": 2}, rope_theta=1), "rope_theta"),
        (
            keys("Llama", rope_scaling={"type": "dynamic", "factor": 2}, head_dim=2),
            "heads of 4 dimensions",
        ),
        (
            keys(
                "Llama",
                rope_scaling={
                    "type": "llama3",
                    "factor": 2,
                    "low_freq_factor": 4,
                    "high_freq_factor": 1,
                },
            ),
            "low_frequency_factor",
        ),
    ],
)
def test_configs_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parsed(values)
