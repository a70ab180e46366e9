"""Decoders through GGUF and back: weights, keys, what cannot be said, the official reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.decoder import Decoder
from fledge.model.gguf import GgufFile, is_gguf, load_gguf, read_gguf, write_gguf
from fledge.model.gguf.metadata import SCALING_KEY, from_metadata, rope_factors, to_metadata
from fledge.model.gguf.names import gguf_name, interleave, our_name, separate
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer
from pico_model import pico_texts
from pico_shapes import BASE, LLAMA3, SHAPES, decoder, shape


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=420), pico_texts, pico_texts, folder)
    assert Tokenizer.load(folder).vocab_size < BASE["vocab_size"]  # as in many checkpoints
    return folder


def patched(path: Path, drop: str = "", **changes: Any) -> Path:
    """A copy of a GGUF file with other values under some keys and without tensor ``drop``."""
    reader = gguf.GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    out = path.with_name("patched.gguf")
    writer = gguf.GGUFWriter(None, values.pop("general.architecture"))
    for name, value in values.items():
        if name.startswith("GGUF.") or value is None:
            continue
        kind = gguf.GGUFValueType.get_type(value)
        kind = gguf.GGUFValueType.UINT32 if kind == gguf.GGUFValueType.INT32 else kind
        writer.add_key_value(name, value, kind)
    for tensor in reader.tensors:
        if tensor.name != drop:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file(out)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_and_the_shape_come_back(name: str, tokenizer: Path, tmp_path: Path) -> None:
    model, out = decoder(shape(name)), tmp_path / "model.gguf"
    write_gguf(model, tokenizer, out, "f32")
    again = load_gguf(out)
    assert again.config == model.config
    assert not again.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    ids = torch.arange(40)[None]
    assert torch.equal(model(ids), again(ids))


@pytest.mark.parametrize(
    ("kind", "unit"), [("f16", 2.0**-11), ("bf16", 2.0**-8), ("q8_0", 0.51 / 127)]
)
def test_narrow_types_stay_within_their_rounding(
    kind: str, unit: float, tokenizer: Path, tmp_path: Path
) -> None:
    model, out = decoder(shape("llama untied")), tmp_path / "model.gguf"
    assert write_gguf(model, tokenizer, out, kind) == []
    file = GgufFile(out)
    assert file.kind == kind.upper()
    for name, tensor in file.tensors():
        own = model.state_dict()[name]
        if own.ndim == 1:
            assert torch.equal(own, tensor)
            continue
        blocks = own.reshape(-1, 32).abs().amax(1, keepdim=True).expand(-1, 32).reshape(own.shape)
        scale = blocks if kind == "q8_0" else own.abs()
        # The smallest half is a subnormal number; Q8_0's scale is itself a half.
        bound = scale * unit * (1.15 if kind == "q8_0" else 1) + 2.0**-25
        assert bool(((own - tensor.float()).abs() <= bound).all()), name
    if kind == "bf16":
        assert load_gguf(out, "bfloat16").embed_tokens.weight.dtype == torch.bfloat16


def test_matrices_that_q8_0_cannot_hold_are_f16_and_it_says_so(
    tokenizer: Path, tmp_path: Path
) -> None:
    config = ModelConfig(**{**BASE, "ffn": 72})
    notes = write_gguf(decoder(config), tokenizer, tmp_path / "m.gguf", "q8_0")
    assert len(notes) == 1
    assert "2 matrices stay F16" in notes[0]
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_norm.weight"] == "F32"


def test_the_official_reader_sees_the_official_keys(tokenizer: Path, tmp_path: Path) -> None:
    write_gguf(decoder(shape("llama3")), tokenizer, tmp_path / "m.gguf", "f16", name="pico")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    values = {name: field.contents() for name, field in reader.fields.items()}
    K = gguf.Keys
    expected = {
        K.General.ARCHITECTURE: "llama",
        K.General.NAME: "pico",
        K.General.FILE_TYPE: int(gguf.LlamaFileType.MOSTLY_F16),
        K.LLM.CONTEXT_LENGTH.format(arch="llama"): 128,
        K.LLM.EMBEDDING_LENGTH.format(arch="llama"): 64,
        K.LLM.BLOCK_COUNT.format(arch="llama"): 2,
        K.LLM.FEED_FORWARD_LENGTH.format(arch="llama"): 96,
        K.LLM.VOCAB_SIZE.format(arch="llama"): 420,
        K.Attention.HEAD_COUNT.format(arch="llama"): 4,
        K.Attention.HEAD_COUNT_KV.format(arch="llama"): 2,
        K.Attention.KEY_LENGTH.format(arch="llama"): 16,
        K.Attention.VALUE_LENGTH.format(arch="llama"): 16,
        K.Rope.DIMENSION_COUNT.format(arch="llama"): 16,
        K.Rope.FREQ_BASE.format(arch="llama"): 500_000.0,
        K.Attention.LAYERNORM_RMS_EPS.format(arch="llama"): float(np.float32(1e-6)),
        K.Tokenizer.MODEL: "gpt2",
        K.Tokenizer.PRE: "qwen2",
        K.Tokenizer.BOS_ID: 0,
        K.Tokenizer.EOS_ID: 2,
        K.Tokenizer.EOT_ID: 0,
        K.Tokenizer.PAD_ID: 0,
        K.Tokenizer.ADD_BOS: False,
    }
    assert {key: values.get(key) for key in expected} == expected
    assert K.Rope.SCALING_TYPE.format(arch="llama") not in values
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name in decoder(shape("llama3")).state_dict():
        theirs = name if name.startswith("lm_head") else f"model.{name}"
        assert known.get_name(theirs, try_suffixes=(".weight",)) == gguf_name(name)
        assert our_name(gguf_name(name)) == name


def test_rope_factors_are_those_of_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    theirs = LlamaConfig(
        hidden_size=512, num_attention_heads=4, head_dim=128, rope_parameters=parameters
    )
    inverse, _ = ROPE_INIT_FUNCTIONS["llama3"](theirs, torch.device("cpu"))
    config = ModelConfig(
        **{
            **BASE,
            "head_size": 128,
            "rope_theta": 500_000.0,
            "rope_scaling": RopeScaling(kind="llama3", factor=8.0, original_context=8192),
        }
    )
    factors = rope_factors(config)
    assert factors is not None
    plain = 500_000.0 ** -(np.arange(0, 128, 2) / 128)
    np.testing.assert_allclose(plain / factors, inverse.numpy(), rtol=1e-5)
    assert len(np.unique(np.round(factors, 3))) > 4, "no ramp was seen"


def test_a_llama3_scaling_is_found_in_files_of_others(tokenizer: Path, tmp_path: Path) -> None:
    write_gguf(decoder(shape("llama3")), tokenizer, tmp_path / "m.gguf", "f32")
    others = patched(tmp_path / "m.gguf", **{SCALING_KEY: None})
    assert SCALING_KEY not in GgufFile(others).fields
    assert GgufFile(others).config.rope_scaling == LLAMA3


def test_a_damaged_key_of_ours_is_named(tokenizer: Path, tmp_path: Path) -> None:
    write_gguf(decoder(shape("llama3")), tokenizer, tmp_path / "m.gguf", "f32")
    for text in ("{", "[1]"):
        with pytest.raises(InputError, match=SCALING_KEY):
            load_gguf(patched(tmp_path / "m.gguf", **{SCALING_KEY: text}))


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("activation = relu2", {"activation": "relu2"}),
        ("gated = False", {"gated": False}),
        ("logit_softcap = 30.0", {"logit_softcap": 30.0}),
        ("qk_norm with attention_bias", {"attention_bias": True}),
        ("dynamic", {"rope_scaling": RopeScaling(kind="dynamic", factor=2.0)}),
        ("truncate", {"rope_scaling": RopeScaling(kind="yarn", factor=2.0, truncate=False)}),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    key: str, changes: dict[str, Any], tokenizer: Path, tmp_path: Path
) -> None:
    model = decoder(ModelConfig(**{**BASE, **changes}))
    with pytest.raises(InputError, match=key) as caught:
        write_gguf(model, tokenizer, tmp_path / "m.gguf")
    assert "--format hf" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_or_too_large_leave_no_file(
    tokenizer: Path, tmp_path: Path
) -> None:
    model, out = decoder(shape("qwen3")), tmp_path / "m.gguf"
    out.write_bytes(b"former")
    with torch.no_grad():
        model.layers[0].mlp.up_proj.weight[0, 0] = 70_000.0
    with pytest.raises(InputError, match=r"ffn_up.*more than F16 holds"):
        write_gguf(model, tokenizer, out, "f16")
    with torch.no_grad():
        model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="no finite numbers"):
        write_gguf(model, tokenizer, out, "f32")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    assert out.read_bytes() == b"former"


def test_notes_tell_what_llama_cpp_does_otherwise(tokenizer: Path, tmp_path: Path) -> None:
    notes = write_gguf(decoder(shape("mistral")), tokenizer, tmp_path / "m.gguf")
    assert any("sliding window" in note for note in notes)
    config = shape("qwen3").model_copy(update={"eos_ids": (2, 0, 3, 4)})
    notes = write_gguf(decoder(config), tokenizer, tmp_path / "n.gguf")
    assert any("three end tokens; (4,)" in note for note in notes)
    assert GgufFile(tmp_path / "n.gguf").config.eos_ids == (2, 0, 3)


@given(heads=st.integers(1, 5), half=st.integers(1, 6), width=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_interleaving_is_undone(heads: int, half: int, width: int) -> None:
    rows = np.arange(heads * half * 2 * width).reshape(-1, width)
    turned = interleave(rows, heads)
    assert np.array_equal(separate(turned, heads), rows)
    # Pair i of a head, which we keep half a head apart, stands side by side.
    assert np.array_equal(turned[0], rows[0])
    assert np.array_equal(turned[1], rows[half])


def test_the_same_model_gives_the_same_bytes(tokenizer: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(decoder(shape("qwen2")), tokenizer, tmp_path / name, "q8_0", name="pico")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def read_whole(path: Path) -> None:
    file = GgufFile(path)
    file.decoder()
    file.tokenizer()


@pytest.fixture(scope="module")
def whole(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    write_gguf(decoder(shape("llama untied")), tokenizer, out, "f16")
    return out


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "m.gguf"
    for content in (b"", b"GG", b"PK\x03\x04 something else"):
        wrong.write_bytes(content)
        assert is_gguf(wrong)
        with pytest.raises(InputError, match="not a GGUF file"):
            load_gguf(wrong)
    assert not is_gguf(tmp_path)
    with pytest.raises(InputError, match="no file"):
        read_gguf(tmp_path / "none.gguf")


@given(share=st.floats(0.0, 0.9999))
@settings(max_examples=60, deadline=None)
def test_a_truncated_file_is_refused(share: float, whole: Path) -> None:
    content = whole.read_bytes()
    cut = whole.with_name("cut.gguf")
    cut.write_bytes(content[: int(4 + share * (len(content) - 5))])
    with pytest.raises(InputError, match="truncated or damaged"):
        load_gguf(cut)


@given(place=st.integers(4, 20_000), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_flipped_byte_is_an_error_of_the_user_or_none(
    place: int, value: int, whole: Path
) -> None:
    content = bytearray(whole.read_bytes())
    content[place] = value
    flipped = whole.with_name("flipped.gguf")
    flipped.write_bytes(content)
    error = ""
    try:
        read_whole(flipped)
    except InputError as caught:
        error = str(caught)
    assert not error or str(flipped) in error


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("architecture 'mamba' is not supported", {"general__architecture": "mamba"}),
        ("llama.block_count is missing", {"llama__block_count": None}),
        ("one part of a split", {"split__count": 3}),
        ("expert_count", {"llama__expert_count": 8}),
        ("rope.scaling.type = 'longrope'", {"llama__rope__scaling__type": "longrope"}),
        ("rope.scaling.factor = 'x'", {"llama__rope__scaling__factor": "x"}),
        ("rope.scaling: factor = 0.0", {"llama__rope__scaling__type": "yarn"}),
        (
            "yarn needs rope_theta above 1",
            {
                "llama__rope__scaling__type": "yarn",
                "llama__rope__scaling__factor": 2.0,
                "llama__rope__freq_base": 1.0,
            },
        ),
        ("value_length", {"llama__attention__value_length": 8}),
        ("blk.0.attn_q.weight of shape", {"llama__attention__head_count": 8}),
        ("block_count is 3, .* 2 layers", {"llama__block_count": 3}),
        ("block_count is 4000000000", {"llama__block_count": 4_000_000_000}),
        ("ffn_up.weight of shape", {"llama__feed_forward_length": 4_000_000_000}),
        ("has 3 tokens, the embedding 420", {"tokenizer__ggml__tokens": ["a", "b", "c"]}),
        ("pre-tokenizer 'chatglm-bpe'", {"tokenizer__ggml__pre": "chatglm-bpe"}),
        ("tokenizer model 't5'", {"tokenizer__ggml__model": "t5"}),
        ("no tokenizer", {"tokenizer__ggml__model": None}),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    message: str, changes: dict[str, Any], whole: Path
) -> None:
    broken = patched(whole, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_whole(broken)
    assert str(broken) in str(caught.value)


def test_a_missing_tensor_is_named(whole: Path) -> None:
    for name in ("blk.1.ffn_up.weight", "token_embd.weight"):
        with pytest.raises(InputError, match="is missing"):
            load_gguf(patched(whole, drop=name))


def test_a_quantisation_that_is_not_read_is_named(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "q4.gguf"
    writer = gguf.GGUFWriter(out, "llama")
    rows = np.zeros((4, 64), dtype=np.float32)
    kind = gguf.GGMLQuantizationType.Q4_0
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match=r"token_embd\.weight is Q4_0"):
        load_gguf(out)


def test_metadata_alone_round_trips() -> None:
    for name in SHAPES:
        config = shape(name)
        fields = to_metadata(config)
        fields["general.architecture"] = next(iter(fields)).split(".")[0]
        names = {gguf_name(key) for key in Decoder(config).state_dict()}
        again = from_metadata(fields, names, rope_factors(config), 420, Path("x"))
        specials = {"bos_id": None, "eos_ids": (), "pad_id": None}
        assert again == config.model_copy(update=specials), name
        assert json.dumps(fields)
