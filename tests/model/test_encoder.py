"""The encoder agrees with transformers, ignores padding, and pools as the closed form says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fledge.model.encoder import Encoder
from fledge.model.encoder_checkpoint import (
    load_classifier,
    load_encoder,
    load_masked_lm,
    save_encoder,
)
from fledge.model.encoder_config import EncoderConfig
from fledge.model.encoder_heads import Classifier, MaskedLM
from fledge.model.pooling import pool

VOCAB, CONTEXT = 61, 40

SHAPES = [  # width, depth, heads, ffn, activation
    (32, 1, 1, 48, "gelu"),
    (48, 3, 4, 96, "gelu_new"),
    (24, 2, 3, 40, "relu"),
    (64, 2, 8, 64, "silu"),
]


def peer_config(shape: tuple[int, int, int, int, str]) -> transformers.BertConfig:
    width, depth, heads, ffn, activation = shape
    return transformers.BertConfig(
        vocab_size=VOCAB,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=ffn,
        hidden_act=activation,
        max_position_embeddings=CONTEXT,
        type_vocab_size=3,
        layer_norm_eps=1e-6,
    )


def shaken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights in which everything matters, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * 0.2 if weight.ndim == 2 else weight + noise * 0.2)
    return model.eval()


def tiny(**changes: object) -> EncoderConfig:
    shape: dict[str, object] = {
        "vocab_size": VOCAB,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "ffn": 48,
        "context": CONTEXT,
    }
    return EncoderConfig.model_validate({**shape, **changes})


def batch(types: int = 3) -> dict[str, torch.Tensor]:
    """Four rows of 17, 5, 1 and 40 tokens, padded, with segment types."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([17, 5, 1, CONTEXT])
    return {
        "ids": torch.randint(0, VOCAB, (4, CONTEXT), generator=generator),
        "mask": (torch.arange(CONTEXT) < lengths[:, None]).long(),
        "types": torch.randint(0, types, (4, CONTEXT), generator=generator),
    }


def peer_inputs(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
    return {names[key]: value for key, value in inputs.items()}


def gap(ours: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    difference = (ours - theirs).abs()
    return float(difference.max() if mask is None else difference[mask.bool()].max())


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_encoder_of_transformers_in_and_out(
    tmp_path: Path, shape: tuple[int, int, int, int, str]
) -> None:
    peer = shaken(transformers.BertModel(peer_config(shape)))
    peer.save_pretrained(tmp_path / "peer")
    inputs = batch()
    theirs = peer(**peer_inputs(inputs))
    model = load_encoder(tmp_path / "peer")
    hidden = model(**inputs)
    assert gap(hidden, theirs.last_hidden_state, inputs["mask"]) <= 1e-5
    assert gap(model.pooled(hidden), theirs.pooler_output) <= 1e-5

    save_encoder(model, tmp_path / "ours")
    again = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    assert type(again) is transformers.BertModel
    stored, kept = peer.state_dict(), again.state_dict()
    assert stored.keys() == kept.keys()
    assert all(torch.equal(stored[name], kept[name]) for name in stored)
    assert gap(again(**peer_inputs(inputs)).last_hidden_state, theirs.last_hidden_state) <= 1e-5


@pytest.mark.parametrize("labels", [1, 3])
@torch.no_grad()
def test_classifier_of_transformers_in_and_out(tmp_path: Path, labels: int) -> None:
    config = peer_config(SHAPES[1])
    config.id2label = {number: f"class {number}" for number in range(labels)}
    config.label2id = {label: number for number, label in config.id2label.items()}
    peer = shaken(transformers.BertForSequenceClassification(config))
    peer.save_pretrained(tmp_path / "peer")
    inputs = batch()
    model = load_classifier(tmp_path / "peer")
    assert model.labels == tuple(f"class {number}" for number in range(labels))
    theirs = peer(**peer_inputs(inputs)).logits
    assert gap(model(**inputs), theirs) <= 1e-5
    backbone = load_encoder(tmp_path / "peer")  # the head is left out
    assert torch.equal(backbone(**inputs), model.encoder(**inputs))

    save_encoder(model, tmp_path / "ours")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert again.config.id2label == config.id2label
    assert gap(again.eval()(**peer_inputs(inputs)).logits, theirs) <= 1e-5


@torch.no_grad()
def test_masked_lm_of_transformers_in_and_out(tmp_path: Path) -> None:
    peer = shaken(transformers.BertForMaskedLM(peer_config(SHAPES[1])))
    peer.save_pretrained(tmp_path / "peer")
    inputs = batch()
    model = load_masked_lm(tmp_path / "peer")
    theirs = peer(**peer_inputs(inputs)).logits
    assert gap(model(**inputs), theirs, inputs["mask"]) <= 2e-5
    save_encoder(model, tmp_path / "ours")
    again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    assert gap(again(**peer_inputs(inputs)).logits, theirs) <= 2e-5


@torch.no_grad()
def test_sharded_pretraining_checkpoint_with_old_names(tmp_path: Path) -> None:
    """``bert.`` before the names, gamma and beta, position_ids, and several files."""
    peer = shaken(transformers.BertForPreTraining(peer_config(SHAPES[2])))
    peer.save_pretrained(tmp_path)
    old = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    old["bert.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    assert any(name.endswith("gamma") for name in old)
    assert any(name.startswith("bert.") for name in old)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(old)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: old[name] for name in part}, tmp_path / file)
    places = {name: file for file, part in shards.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": places}), encoding="utf-8"
    )
    inputs = batch()
    theirs = peer.bert(**peer_inputs(inputs)).last_hidden_state
    assert gap(load_encoder(tmp_path)(**inputs), theirs, inputs["mask"]) <= 1e-5
    logits = peer(**peer_inputs(inputs)).prediction_logits
    assert gap(load_masked_lm(tmp_path)(**inputs), logits, inputs["mask"]) <= 2e-5


@torch.no_grad()
def test_padding_changes_nothing_wherever_it_is_read() -> None:
    model = shaken(Encoder(tiny()))
    inputs = batch(types=2)
    whole = model(**inputs)
    for row, length in enumerate(inputs["mask"].sum(1).tolist()):
        alone = model(
            inputs["ids"][row : row + 1, :length], None, inputs["types"][row, None, :length]
        )
        assert (whole[row, :length] - alone[0]).abs().max() <= 1e-5
    scrambled = torch.where(inputs["mask"].bool(), inputs["ids"], 7)
    again = model(scrambled, inputs["mask"], inputs["types"])
    assert torch.equal(pool(again, inputs["mask"]), pool(whole, inputs["mask"]))


@torch.no_grad()
def test_every_token_sees_later_ones_and_a_row_of_padding_stays_finite() -> None:
    model = shaken(Encoder(tiny()))
    ids = batch()["ids"][:1]
    changed = ids.clone()
    changed[0, -1] = (changed[0, -1] + 1) % VOCAB
    assert ((model(ids) - model(changed)).abs().amax(-1) > 1e-4).all()
    empty = torch.zeros_like(ids)
    assert model(ids, empty).isfinite().all()
    assert torch.equal(pool(model(ids, empty), empty), torch.zeros(1, 32))


@torch.no_grad()
def test_long_rows_take_the_fused_kernel_and_agree() -> None:
    config = tiny(context=700)
    model = shaken(Encoder(config))
    ids = torch.randint(0, VOCAB, (2, 700), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(700) < torch.tensor([[600], [80]])).long()
    whole = model(ids, mask)
    assert whole.isfinite().all()
    alone = model(ids[1:, :80])
    assert (whole[1:, :80] - alone).abs().max() <= 1e-5


def test_bfloat16_is_close_and_gives_float32(tmp_path: Path) -> None:
    model = shaken(Encoder(tiny()))
    save_encoder(model, tmp_path)
    half = load_encoder(tmp_path, dtype="bfloat16")
    inputs = batch(types=2)
    assert half.embed_tokens.weight.dtype == torch.bfloat16
    with torch.no_grad():
        exact, rough = (pool(m(**inputs), inputs["mask"]) for m in (model, half))
    assert rough.dtype == torch.float32
    assert 0.99 < float((exact * rough).sum(-1).min()) < 0.9999999


def test_parameters_are_counted_and_seeds_decide() -> None:
    for pooler in (False, True):
        config = tiny(pooler=pooler, types=3)
        model = Encoder(config).initialize(1)
        assert sum(weight.numel() for weight in model.parameters()) == config.parameters
    first, second, other = (Encoder(tiny()).initialize(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embed_tokens.weight"], other["embed_tokens.weight"])


def test_dropout_acts_in_training_only() -> None:
    model = Encoder(tiny(dropout=0.3)).initialize(0)
    inputs = batch(types=2)
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(**inputs), model(**inputs))
    model.eval()
    assert torch.equal(model(**inputs), model(**inputs))


def test_masked_lm_and_classifier_learn_a_rule() -> None:
    """Tokens 0-29 make class 0, 30-59 class 1; the masked token is 3 or 40 after the class."""
    generator = torch.Generator().manual_seed(0)
    classifier = Classifier(tiny(), ("low", "high")).initialize(0)
    masked = MaskedLM(tiny()).initialize(0)
    parameters = [*classifier.parameters(), *masked.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for _ in range(60):
        kinds = torch.randint(0, 2, (16,), generator=generator)
        ids = torch.randint(0, 30, (16, 8), generator=generator) + 30 * kinds[:, None]
        hidden = torch.cat((ids, torch.full((16, 1), VOCAB - 1)), dim=1)
        loss = torch.nn.functional.cross_entropy(classifier(ids), kinds)
        loss = loss + torch.nn.functional.cross_entropy(masked(hidden)[:, -1], 3 + 37 * kinds)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(weight.grad is not None for weight in parameters)
    assert losses[0] > 3.5
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pooling_is_the_closed_form(data: st.DataObject) -> None:
    rows, length, width = (data.draw(st.integers(1, 5)) for _ in range(3))
    hidden = torch.randn(rows, length, width, generator=torch.Generator().manual_seed(rows))
    mask = torch.tensor(
        data.draw(
            st.lists(
                st.lists(st.booleans(), min_size=length, max_size=length).filter(any),
                min_size=rows,
                max_size=rows,
            )
        )
    )
    for row in range(rows):
        tokens = hidden[row][mask[row]]
        expected = {"mean": tokens.mean(0), "cls": tokens[0], "max": tokens.amax(0)}
        spoiled = torch.where(mask.unsqueeze(-1), hidden, torch.nan)
        for how, vector in expected.items():
            found = pool(spoiled, mask, how, normalize=False)[row]  # type: ignore[arg-type]
            assert torch.allclose(found, vector, atol=1e-6)
            unit = pool(spoiled, mask.long(), how)[row]  # type: ignore[arg-type]
            assert torch.allclose(unit, vector / vector.norm(), atol=1e-6)


def test_wrong_use_is_refused() -> None:
    model = Encoder(tiny())
    with pytest.raises(ValueError, match="41 tokens exceed the context of 40"):
        model(torch.zeros(1, 41, dtype=torch.int64))
    with pytest.raises(ValueError, match="no pooler"):
        model.pooled(torch.zeros(1, 2, 32))
    with pytest.raises(ValueError, match="pooling 'sum'"):
        pool(torch.zeros(1, 2, 3), torch.ones(1, 2), "sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels"):
        Classifier(tiny(), ("same", "same"))
    with pytest.raises(ValueError, match=r"heads \(5\) must divide width \(32\)"):
        tiny(heads=5)
