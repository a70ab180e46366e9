"""``verify`` on checkpoints and shards from disk, and on every switch of the model family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fledge.core.errors import InputError
from fledge.core.protocols import Silent
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.verify.check import Check, Subject, name_of, run_checks
from fledge.train.verify.checks import CHECKS
from fledge.train.verify.pico import pico_config
from fledge.train.verify.subject import open_subject
from pico_model import write_pico_model
from pico_shards import pattern_shards

ALL = {name_of(check): check for check in CHECKS}


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return open_subject(None, None, None, [], tmp_path)


def verdict(name: str, subject: Subject) -> Check:
    [found] = run_checks(subject, [ALL[name]], Silent())
    return found


def test_a_checkpoint_and_its_own_data(tmp_path: Path) -> None:
    stage = write_pico_model(tmp_path)
    (tmp_path / "scratch").mkdir()
    subject = open_subject(stage, None, None, [], tmp_path / "scratch")
    found = run_checks(subject, CHECKS, Silent())
    assert {check.name: check.ok for check in found} == {name_of(c): True for c in CHECKS}
    assert subject.source == stage / "model"


def test_shards_without_tokenizer_make_their_own_model(tmp_path: Path) -> None:
    tokens = pattern_shards(tmp_path / "tokens")
    (tmp_path / "scratch").mkdir()
    subject = open_subject(None, tokens, None, [], tmp_path / "scratch")
    assert subject.model.config.vocab_size == 64
    assert verdict("label-alignment", subject).ok
    assert "the tokens folder" in verdict("label-alignment", subject).compared
    assert verdict("resume", subject).ok is None


def test_a_missing_checkpoint_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_subject(tmp_path / "none", None, None, [], tmp_path)


def test_a_checkpoint_with_a_nan_on_disk(tmp_path: Path) -> None:
    stage = write_pico_model(tmp_path)
    path = stage / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = torch.nan
    save_file(weights, path)
    (tmp_path / "scratch").mkdir()
    subject = open_subject(stage, None, None, [], tmp_path / "scratch")
    found = verdict("finite-weights", subject)
    assert found.ok is False
    assert "layers.1.mlp.down_proj.weight: 1 of" in found.compared


SWITCHES: list[dict[str, Any]] = [
    {"qk_norm": False, "tied": False},
    {"heads": 8, "kv_heads": 8, "logit_softcap": 20.0},
    {"heads": 8, "kv_heads": 1, "activation": "relu2", "gated": False},
    {"attention_bias": True, "output_bias": True, "ffn_bias": True},
    {"window": 5, "window_layers": (0, 3), "depth": 4},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s))
def test_a_pico_sibling_has_the_same_switches(switches: dict[str, Any]) -> None:
    values = {"vocab_size": 4096, "width": 512, "depth": 2, "heads": 8, "kv_heads": 4}
    shape = ModelConfig.model_validate({**values, "ffn": 1024, "context": 512, **switches})
    small = pico_config(shape, 29)
    assert small.parameters < 60_000
    for name in ("qk_norm", "tied", "activation", "gated", "attention_bias", "logit_softcap"):
        assert getattr(small, name) == getattr(shape, name)
    assert (small.kv_heads == small.heads) == (shape.kv_heads == shape.heads)
    assert (small.kv_heads == 1) == (shape.kv_heads == 1)
    assert (small.window_of(0) is None) == (shape.window_of(0) is None)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s))
def test_every_switch_passes_the_checks_of_the_model(
    switches: dict[str, Any], subject: Subject
) -> None:
    values = {"vocab_size": 600, "width": 64, "depth": 2, "heads": 4, "kv_heads": 2}
    shape = ModelConfig.model_validate({**values, "ffn": 96, "context": 64, **switches})
    model = Decoder(shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.1 * noise if weight.ndim == 1 else 0.15 * noise)
    altered = dataclasses.replace(subject, model=model.eval())
    names = ("accumulation", "packing", "padding", "document-leak", "causality",
             "cached-decoding", "gradient-check", "tied-weights")  # fmt: skip
    found = run_checks(altered, [ALL[name] for name in names], Silent())
    assert [check for check in found if not check.ok] == []
