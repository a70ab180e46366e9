"""Rows of a frozen matrix that learn: by hand, in a decoder, on disk, and switched off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fledge.core.errors import InputError
from fledge.model.lora import add_lora, lora_disabled, lora_layers, merge_lora, remove_lora
from fledge.model.lora_checkpoint import load_lora, save_lora
from fledge.model.lora_config import LoraConfig
from fledge.model.token_rows import TokenRows, grow_vocabulary, learn_rows, merge_rows, token_rows
from lora_decoder import VOCAB, ids, shake_lora, tiny_decoder

CONFIG = LoraConfig(rank=2, alpha=4)


def test_by_hand() -> None:
    table = nn.Embedding(4, 2)
    with torch.no_grad():
        table.weight.copy_(torch.arange(8.0).view(4, 2))
    part = TokenRows(table, [3, 1])
    assert part.rows.tolist() == [[6.0, 7.0], [2.0, 3.0]]
    assert torch.equal(part.weight, table.weight)
    with torch.no_grad():
        part.rows.add_(10)
    assert part.weight.tolist() == [[0, 1], [12, 13], [4, 5], [16, 17]]
    # Gradient: tokens 3, 0, 3 are read; row 3 counts twice, row 1 not at all, the base nothing.
    F.embedding(torch.tensor([3, 0, 3]), part.weight).sum().backward()
    assert part.rows.grad is not None
    assert part.rows.grad.tolist() == [[2, 2], [0, 0]]
    assert table.weight.grad is None


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_in_a_decoder(tied: bool) -> None:
    model = tiny_decoder(tied=tied)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    start = model(ids())
    add_lora(model, CONFIG)
    learn_rows(model, [2, 30])
    assert len(token_rows(model)) == (1 if tied else 2)
    assert (model(ids()) - start).abs().max() <= 1e-6
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name for name in trainable if "layers." not in name} == {
        f"{name}.rows" for name in token_rows(model)
    }
    for part in token_rows(model).values():
        part.rows.add_(0.5)
    after = model(ids())
    logits = (after - start).abs().amax((0, 1))
    assert logits[[2, 30]].min() > 0.1
    with lora_disabled(model):
        assert (model(ids()) - start).abs().max() <= 1e-6
    assert torch.equal(model(ids()), after)
    merge_lora(model)
    assert model.state_dict().keys() == before.keys()
    assert (model(ids()) - after).abs().max() <= 2e-5
    changed = (model.embed_tokens.weight != before["embed_tokens.weight"]).any(1)
    assert changed.nonzero().flatten().tolist() == [2, 30]
    assert all(weight.requires_grad for weight in model.parameters())


@torch.no_grad()
def test_taken_away_the_model_is_as_before() -> None:
    model = tiny_decoder()
    start = model(ids())
    add_lora(model, CONFIG)
    shake_lora(model)
    for part in learn_rows(model, [1]):
        part.rows.add_(1)
    remove_lora(model)
    assert torch.equal(model(ids()), start)
    merge_rows(model)  # nothing is left to merge
    assert torch.equal(model(ids()), start)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_saved_and_loaded_into_a_model_without_the_tokens(tmp_path: Path, tied: bool) -> None:
    model = tiny_decoder(tied=tied)
    grow_vocabulary(model, VOCAB + 2)
    add_lora(model, CONFIG)
    for part in learn_rows(model, [VOCAB, VOCAB + 1, 4]):
        part.rows.add_(torch.rand(part.rows.shape, generator=torch.Generator().manual_seed(1)))
    shake_lora(model)
    save_lora(model, tmp_path, CONFIG)
    said = json.loads((tmp_path / "adapter_config.json").read_text())["trainable_token_indices"]
    places = [VOCAB, VOCAB + 1, 4]
    assert said == (places if tied else {"embed_tokens": places, "lm_head": places})
    other = tiny_decoder(tied=tied)
    load_lora(other, tmp_path)
    assert other.config.vocab_size == VOCAB + 2
    assert torch.equal(other(ids()), model(ids()))
    merge_lora(other)
    assert (other(ids()) - model(ids())).abs().max() <= 2e-5


KEY = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"


@pytest.mark.parametrize(
    ("said", "tensors", "message"),
    [
        ([1], lambda w: w.pop(KEY), "missing or not of shape"),
        ([1, 2], lambda w: None, r"missing or not of shape \(2, 32\)"),
        ([1], lambda w: w.update({KEY: torch.zeros(1, 7)}), r"not of shape \(1, 32\)"),
        ([-1], lambda w: None, "is not valid"),
        ("all", lambda w: None, "is not valid"),
        ({"embed": [1]}, lambda w: None, "names embed, which the model lacks"),
        ({"lm_head": [1]}, lambda w: None, "names lm_head, which the model lacks"),
        (None, lambda w: None, "has no place in the model"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, said: Any, tensors: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    model = tiny_decoder(tied=True)
    add_lora(model, CONFIG)
    learn_rows(model, [1])
    save_lora(model, tmp_path, CONFIG)
    file = tmp_path / "adapter_config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "trainable_token_indices": said}))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    tensors(weights)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    other = tiny_decoder(tied=True)
    with pytest.raises(InputError, match=message):
        load_lora(other, tmp_path)
    assert not lora_layers(other)
    assert not token_rows(other)
