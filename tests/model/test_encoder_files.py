"""A BERT or sentence-transformers folder that is broken or unknown says so, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fledge.core.errors import FledgeError, InputError
from fledge.model.bert import bert_name, from_bert, plain_name, to_bert
from fledge.model.encoder import Encoder
from fledge.model.encoder_checkpoint import load_classifier, load_encoder, save_encoder
from fledge.model.encoder_config import EncoderConfig, Pooling, TextSettings
from fledge.model.encoder_heads import Classifier

CONFIG = EncoderConfig(vocab_size=20, width=16, depth=1, heads=2, ffn=24, context=12)

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = Encoder(CONFIG).initialize(0)
    model.text_settings = TextSettings(max_tokens=8, pooling=Pooling(how="cls"))
    save_encoder(model, tmp_path)
    return tmp_path


def edit_json(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, **changes}), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


QUERY = "encoder.layer.0.attention.self.query"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{QUERY}.bias"), f"tensor {QUERY}.bias is missing"),
        (
            lambda w: w.update({f"{QUERY}.weight": torch.zeros(16, 15)}),
            r"has shape \(16, 15\).*asks for shape \(16, 16\)",
        ),
        (lambda w: w.update({"embeddings.extra": torch.zeros(1)}), "embeddings.extra has no place"),
        (
            lambda w: w.update({f"{QUERY}.weight": torch.zeros(16, 16, dtype=torch.int8)}),
            "has type I8",
        ),
        (
            lambda w: w.update({"encoder.layer.1.output.dense.bias": torch.zeros(16)}),
            "layer.1.output.dense.bias has no place",
        ),
    ],
)
def test_wrong_weights(folder: Path, change: Callable[[Tensors], object], message: str) -> None:
    edit_weights(folder, change)
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated_weights(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "model_type = 'roberta' is not supported"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder = True"),
        ({"hidden_act": "mish"}, "hidden_act = 'mish'"),
        ({"hidden_size": None}, "width = None is not valid"),
        ({"hidden_size": "16"}, ""),
        ({"num_attention_heads": 5}, "must divide width"),
        ({"num_hidden_layers": 0}, "depth = 0 is not valid"),
        ({"num_hidden_layers": 2}, "encoder.layer.1.attention.self.query.weight is missing"),
        ({"num_hidden_layers": 10**12}, "config.json describes .* weights, stored are"),
        ({"hidden_size": 10**12}, "config.json describes .* weights, stored are"),
        ({"hidden_act": ["gelu"]}, r"hidden_act = \['gelu'\]"),
    ],
)
def test_wrong_config(folder: Path, change: dict[str, Any], message: str) -> None:
    edit_json(folder / "config.json", **change)
    if not message:  # a number in quotes is read as one
        assert load_encoder(folder).config.width == 16
        return
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


def test_shards_are_read_and_broken_ones_named(folder: Path) -> None:
    from transformers import BertModel

    whole, cut = load_encoder(folder), folder / "cut"
    peer = BertModel.from_pretrained(folder, add_pooling_layer=False)
    peer.save_pretrained(cut, max_shard_size="3KB")
    index = cut / "model.safetensors.index.json"
    placed = json.loads(index.read_text())["weight_map"]
    assert len(set(placed.values())) > 2
    for name, weight in load_encoder(cut).named_parameters():
        assert torch.equal(weight, whole.get_parameter(name))
    last = max(placed.values())
    index.write_text(json.dumps({"weight_map": {**placed, "embeddings.ghost": last}}))
    with pytest.raises(InputError, match=f"embeddings.ghost is in {last}, which has no such"):
        load_encoder(cut)
    index.write_text(json.dumps({"weight_map": placed}))
    (cut / last).unlink()
    with pytest.raises(InputError, match=f"{last} is missing"):
        load_encoder(cut)
    index.write_text("{}")
    with pytest.raises(InputError, match="has no weight_map"):
        load_encoder(cut)


def test_weights_keep_nothing_of_the_file_and_get_the_type_asked_for(folder: Path) -> None:
    model = load_encoder(folder, dtype="bfloat16")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    model = load_encoder(folder)
    before = [weight.clone() for weight in model.parameters()]
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(4096)
        file.write(b"\1" * 2048)
    assert all(map(torch.equal, before, model.parameters()))


def test_a_full_disk_leaves_the_former_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    model = load_encoder(folder)
    model.config = model.config.model_copy(update={"pad_id": 7})

    def fails(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("fledge.model.weights.save_file", fails)
    with pytest.raises(FledgeError, match=r"cannot be written: No space.*free disk space"):
        save_encoder(model, folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_missing_files_and_types(folder: Path) -> None:
    with pytest.raises(InputError, match="dtype 'int4'"):
        load_encoder(folder, dtype="int4")
    with pytest.raises(InputError, match=r"pooler\.dense\.weight is missing"):
        load_classifier(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load_encoder(folder)
    with pytest.raises(InputError, match="does not exist"):
        load_encoder(folder / "nowhere")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_tokens = 'long'"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "pooling 3 is not supported"),
        ("config_sentence_transformers.json", {"prompts": ["q"]}, r"prompts = \['q'\]"),
    ],
)
def test_wrong_settings(folder: Path, file: str, change: dict[str, Any], message: str) -> None:
    edit_json(folder / file, **change)
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize("named", [{}, {"0": "a", "1": "a"}, {"x": "a"}, ["a"]])
def test_wrong_labels(tmp_path: Path, named: Any) -> None:
    save_encoder(Classifier(CONFIG, ("a", "b")).initialize(0), tmp_path)
    edit_json(tmp_path / "config.json", id2label=named)
    with pytest.raises(InputError, match="id2label"):
        load_classifier(tmp_path)


def test_labels_without_names_are_two_as_in_transformers(tmp_path: Path) -> None:
    save_encoder(Classifier(CONFIG, ("a", "b")).initialize(0), tmp_path)
    edit_json(tmp_path / "config.json", id2label=None)
    assert load_classifier(tmp_path).labels == ("LABEL_0", "LABEL_1")


def test_settings_round_trip(tmp_path: Path) -> None:
    for settings in (
        TextSettings(max_tokens=8, pooling=Pooling(how="max", normalize=False)),
        TextSettings(
            max_tokens=12,
            lowercase=True,
            prompts={"query": "query: ", "passage": ""},
            default_prompt="query",
        ),
    ):
        model = Encoder(CONFIG).initialize(0)
        model.text_settings = settings
        save_encoder(model, tmp_path)
        assert load_encoder(tmp_path).text_settings == settings


def test_weights_in_a_subfolder(folder: Path) -> None:
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json"):
        (folder / name).rename(folder / "0_Transformer" / name)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    model = load_encoder(folder)
    assert model.text_settings == TextSettings(max_tokens=8, pooling=Pooling(how="cls"))


def test_settings_that_cannot_be_followed_are_refused(folder: Path) -> None:
    pooling, modules = folder / "1_Pooling" / "config.json", folder / "modules.json"
    for change, message in (
        ({"pooling_mode_cls_token": False}, "pooling none is not supported"),
        ({"pooling_mode_mean_tokens": True}, r"mean \+ cls|cls \+ mean"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"include_prompt": False}, "include_prompt"),
    ):
        before = pooling.read_text(encoding="utf-8")
        edit_json(pooling, **change)
        with pytest.raises(InputError, match=message):
            load_encoder(folder)
        pooling.write_text(before, encoding="utf-8")
    kinds = json.loads(modules.read_text(encoding="utf-8"))
    kinds.insert(2, {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    modules.write_text(json.dumps(kinds), encoding="utf-8")
    with pytest.raises(InputError, match="Transformer, Pooling, Dense, Normalize"):
        load_encoder(folder)
    modules.write_text('{"not": "a list"}', encoding="utf-8")
    with pytest.raises(InputError, match="not a list of modules"):
        load_encoder(folder)


def test_saving_in_half_precision_and_names_both_ways(folder: Path) -> None:
    save_encoder(load_encoder(folder), folder / "half", dtype="bfloat16")
    stored = load_file(folder / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    ours = [name for name, _ in Encoder(CONFIG).named_parameters()]
    assert sorted(stored) == sorted(bert_name(name) for name in ours)
    assert len(set(stored)) == len(ours)
    assert plain_name("bert.embeddings.LayerNorm.gamma") == "embeddings.LayerNorm.weight"
    assert plain_name("bert.embeddings.LayerNorm.beta") == "embeddings.LayerNorm.bias"


def test_config_round_trip() -> None:
    config = CONFIG.model_copy(update={"activation": "gelu_tanh", "dropout": 0.2, "pad_id": None})
    values = to_bert(config, "BertModel", "float32")
    assert from_bert(values, Path("config.json"), pooler=False) == config
    with pytest.raises(InputError, match="not an object"):
        from_bert([1], Path("config.json"), pooler=False)
