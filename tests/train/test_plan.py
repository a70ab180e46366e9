"""What a run derives from its config, the shape and the data: against its rules by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.model.config import ModelConfig, derive
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.optimizers import build_optimizers
from fledge.train.plan import Plan, matrix_parameters, plan, state_bytes

SMALL = derive(4, 4096, 256)


def planned(available: int = 10**9, shape: ModelConfig = SMALL, **values: Any) -> Plan:
    return plan(PretrainConfig.model_validate(values), shape, available)


def test_the_recipes_of_this_repository_are_as_they_were() -> None:
    """What their tables name stands, and the rates that were measured for them too."""
    bridges = planned(tokens=5_000_000, context=128, batch_rows=64, shape=derive(4, 4096, 128))
    assert (bridges.steps, bridges.batch_rows, bridges.epochs) == (611, 64, None)
    assert (bridges.matrix_rate, bridges.other_rate) == (0.01, 0.016)
    assert (bridges.warmup_steps, bridges.decay_steps) == (12, 306)
    wide = derive(4, 8192, 256, width=320)
    documents = {"tokens": 10_000_000, "max_epochs": 10, "context": 256, "batch_rows": 32}
    assert planned(shape=wide, **documents).steps == math.ceil(10_000_000 / 8192)
    assert planned(shape=wide, available=200_000, **documents).tokens == 2_007_040
    assert planned(shape=wide, **documents).matrix_rate == 0.01


def test_the_horizon_is_twenty_tokens_a_weight_but_four_passes_at_most() -> None:
    weights = 4 * SMALL.layer_parameters + 4096 * 256
    assert matrix_parameters(SMALL) == weights
    free = planned()
    assert 0 <= free.tokens - 20 * weights < free.batch_rows * free.context
    assert free.epochs is None
    bound = planned(available=1_000_000)
    assert bound.epochs == 4.0
    assert bound.tokens == bound.steps * bound.batch_rows * 256
    assert 4_000_000 <= bound.tokens < 4_000_000 + bound.batch_rows * 256
    assert planned(available=1_000_000, max_epochs=2).epochs == 2.0
    assert planned(tokens_per_parameter=1).tokens < free.tokens / 19
    assert planned(epochs=0.5).epochs == 0.5
    assert planned(available=1000, tokens=50_000).tokens >= 50_000
    assert planned(available=1000, tokens=50_000, max_epochs=2).tokens < 3000


@given(
    tokens=st.integers(1, 10**12),
    context=st.sampled_from([2, 128, 1000, 4096]),
    micro_rows=st.sampled_from([None, 1, 3, 8]),
)
@settings(max_examples=100, deadline=None)
def test_the_batch_follows_the_horizon(tokens: int, context: int, micro_rows: int | None) -> None:
    found = planned(tokens=tokens, context=context, micro_rows=micro_rows)
    wanted = 8192 * (tokens / 5_000_000) ** 0.383
    unit = micro_rows or 1
    assert found.batch_rows % unit == 0
    assert math.log2(found.batch_rows // unit).is_integer()
    if found.batch_rows > unit:
        assert 2**-0.51 < found.batch_rows * context / wanted < 2**0.51
    else:
        assert unit * context > wanted / 1.5
    later = planned(tokens=2 * tokens, context=context, micro_rows=micro_rows)
    assert later.batch_rows >= found.batch_rows


@pytest.mark.parametrize("steps", [1, 100, 610, 100_000])
def test_steps_and_tokens_lead_to_one_batch(steps: int) -> None:
    """With steps given the batch solves batch = 8192 (steps x batch / 5 M)^0.383."""
    first = planned(steps=steps, context=2)
    again = planned(tokens=first.tokens, context=2)
    assert first.steps == steps
    assert 0.5 <= first.batch_rows / again.batch_rows <= 2


def test_given_values_stand_and_say_so() -> None:
    values = {
        "width": 256,
        "batch_rows": 6,
        "steps": 10,
        "learning_rate": 0.3,
        "embedding_learning_rate": 0.2,
        "weight_decay": 0.7,
        "vector_weight_decay": 0.6,
        "warmup_steps": 3,
        "init": "somewhere",
    }
    found = planned(**values).record()
    expected = {"batch_rows": 6, "steps": 10, "learning_rate": 0.3, "warmup_steps": 3}
    expected |= {"embedding_learning_rate": 0.2, "weight_decay": 0.7, "vector_weight_decay": 0.6}
    for name, value in expected.items():
        assert found[name] == {"value": value, "rule": "given"}
    assert found["width"]["rule"] == "of the checkpoint"
    fresh = planned(width=256).record()
    assert fresh["width"] == {"value": 256, "rule": "given"}
    assert fresh["kv_heads"]["rule"].startswith("half the heads")
    assert json.loads(json.dumps(fresh)) == fresh


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "lion"])
def test_going_on_from_a_checkpoint_is_gentler(optimizer: str) -> None:
    fresh = planned(optimizer=optimizer, steps=10)
    continued = planned(optimizer=optimizer, steps=10, init="somewhere")
    assert continued.matrix_rate == pytest.approx(0.5 * fresh.matrix_rate)
    assert continued.other_rate == pytest.approx(0.5 * fresh.other_rate)
    assert "continued" in continued.rules["learning_rate"]


def test_every_value_is_shown_with_its_rule() -> None:
    for values in ({}, {"schedule": "cosine"}, {"schedule": "constant"}, {"optimizer": "lion"}):
        found = planned(**values)
        lines = found.lines()
        assert len(lines) == len(found.values()) == len(found.record())
        starts = {
            line.rindex(found.rules[name]) for line, name in zip(lines, found.values(), strict=True)
        }
        assert len(starts) == 1  # the rules stand below each other


def test_a_loaders_own_count_of_steps_is_taken() -> None:
    found = plan(PretrainConfig(epochs=1, batch_rows=8), SMALL, 10**6, steps=777)
    assert (found.steps, found.tokens) == (777, 777 * 8 * 256)
    assert found.decay_steps == round(777 / 2)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "lion"])
def test_the_states_take_what_is_said(optimizer: str) -> None:
    shape = derive(2, 300, 32, width=64)
    config = PretrainConfig.model_validate({"optimizer": optimizer, "batch_rows": 8})
    model = Decoder(shape).initialize(0)
    optimizers = build_optimizers(model, config, matrix_rate=0.1, other_rate=0.1)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    total = 0
    for one in optimizers:
        one.step()
        total += sum(
            value.numel() * value.element_size()
            for state in one.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.ndim
        )
    assert total == pytest.approx(state_bytes(config, shape), rel=0.02)


def test_an_average_costs_a_copy_of_the_weights() -> None:
    assert planned(ema=0.99).memory - planned().memory == 4 * SMALL.parameters


def test_operations_are_counted_at_the_rows_that_are_read() -> None:
    long = SMALL.model_copy(update={"context": 8192})
    found = planned(shape=long, context=256, steps=3, batch_rows=2)
    assert found.flops == 3 * 2 * 256 * SMALL.training_flops_per_token
