"""Optimizers and the average of weights: against closed forms, and resumed to the same bits."""

from __future__ import annotations

import importlib.util
import io
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.config import LoopConfig
from fledge.train.ema import Average, averaged, settle
from fledge.train.lion import Lion
from fledge.train.loader import PackedLoader
from fledge.train.muon import Muon, orthogonalize
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers, group_weights, set_rate
from fledge.train.rates import eps_of
from fledge.train.shards import TokenShards
from pico_shards import VOCAB, pattern_shards

SHAPE = ModelConfig(
    vocab_size=VOCAB,
    width=64,
    depth=2,
    heads=2,
    kv_heads=1,
    ffn=96,
    context=16,
    tied=False,
)
HAS_8_BIT = importlib.util.find_spec("bitsandbytes") is not None
needs_8_bit = pytest.mark.skipif(not HAS_8_BIT, reason="bitsandbytes is an extra")
OPTIMIZERS = ["muon", "adamw", "lion", pytest.param("adamw8bit", marks=needs_8_bit)]


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_weight_is_in_the_group_it_belongs_to() -> None:
    model = Decoder(SHAPE)
    groups = group_weights(model)
    together = [id(weight) for group in groups for weight in group]
    assert sorted(together) == sorted(id(weight) for weight in model.parameters())
    assert [id(w) for w in groups.embedding] == [id(model.embed_tokens.weight)]
    assert model.lm_head is not None
    assert [id(w) for w in groups.output] == [id(model.lm_head.weight)]
    assert len(groups.matrices) == 2 * 7
    assert all(weight.ndim == 1 for weight in groups.vectors)


def test_frozen_weights_have_no_optimizer() -> None:
    model = Decoder(SHAPE)
    for name, weight in model.named_parameters():
        weight.requires_grad_("mlp" in name)
    optimizers = build_optimizers(model, LoopConfig(ema=0.9), matrix_rate=1.0, other_rate=1.0)
    for optimizer in optimizers:
        assert all(w.requires_grad for g in optimizer.param_groups for w in g["params"])
    assert [type(one) for one in optimizers] == [Muon, Average]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_group_decays_as_told(optimizer: str) -> None:
    config = LoopConfig.model_validate(
        {
            "optimizer": optimizer,
            "weight_decay": 0.4,
            "embedding_weight_decay": 0.3,
            "output_weight_decay": 0.2,
            "vector_weight_decay": 0.1,
        }
    )
    model = Decoder(SHAPE).initialize(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(2.0) if "proj" in name or "norm" in name else weight.add_(1.0)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizers = build_optimizers(model, config, matrix_rate=0.5, other_rate=0.25)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    for one in optimizers:
        one.step()
    decays = {"embed_tokens": 0.25 * 0.3, "lm_head": 0.25 * 0.2, "norm": 0.25 * 0.1}
    for name, weight in model.named_parameters():
        decay = next((d for key, d in decays.items() if key in name), 0.5 * 0.4)
        torch.testing.assert_close(weight.detach(), before[name] * (1 - decay), msg=name)


@pytest.mark.parametrize("shape", [(8, 6), (6, 8)])
def test_neurons_that_always_move_far_are_held_back(shape: tuple[int, int]) -> None:
    """NorMuon written out: neurons, the longer side, are divided by their usual size."""
    weight = torch.nn.Parameter(torch.zeros(shape))
    optimizer = Muon([weight], lr=1.0)
    side = 1 if shape[0] > shape[1] else 0
    second = torch.zeros(1)
    for step in range(4):
        before = weight.detach().clone()
        weight.grad = values(step, *shape)
        weight.grad[0] *= 9
        weight.grad[:, 0] *= 9
        momentum = optimizer.state[weight].get("momentum", torch.zeros(shape)).clone()
        optimizer.step()
        ahead = torch.lerp(weight.grad, torch.lerp(momentum, weight.grad, 0.05), 0.95)
        polar = orthogonalize(ahead[None], torch.float32)[0]
        second = 0.95 * second + 0.05 * polar.square().mean(side, keepdim=True)
        evened = polar / second.sqrt()
        expected = evened * polar.norm() / evened.norm()
        grown = max(1.0, shape[0] / shape[1]) ** 0.5
        torch.testing.assert_close(before - weight.detach(), expected * grown)


def test_lion_is_its_algorithm() -> None:
    """The update of arXiv:2302.06675, algorithm 2, written out plainly, over five steps."""
    rate, decay, now, later = 0.01, 0.2, 0.9, 0.99
    weight = torch.nn.Parameter(values(0, 5, 3))
    expected, momentum = weight.detach().clone(), torch.zeros(5, 3)
    optimizer = Lion([weight], lr=rate, betas=(now, later), weight_decay=decay)
    for step in range(5):
        gradient = values(step + 1, 5, 3)
        weight.grad = gradient.clone()
        optimizer.step()
        direction = torch.sign(now * momentum + (1 - now) * gradient)
        expected = expected - rate * (direction + decay * expected)
        momentum = later * momentum + (1 - later) * gradient
        torch.testing.assert_close(weight.detach(), expected)


def test_adamw_gets_averages_and_epsilon_as_told() -> None:
    config = LoopConfig(optimizer="adamw", betas=(0.8, 0.7), eps=1e-3)
    (optimizer,) = build_optimizers(Decoder(SHAPE), config, matrix_rate=0.1, other_rate=0.1)
    assert all(g["betas"] == (0.8, 0.7) and g["eps"] == 1e-3 for g in optimizer.param_groups)
    lion = build_optimizers(
        Decoder(SHAPE), LoopConfig(optimizer="lion"), matrix_rate=0.1, other_rate=0.1
    )
    assert lion[0].param_groups[0]["betas"] == (0.9, 0.99)


def test_tokens_that_are_never_met_are_not_pushed_away_for_ever() -> None:
    """Their gradient is their probability and always of one sign; Adam forgets how small it is."""
    model = Decoder(SHAPE).initialize(0)
    config = LoopConfig(optimizer="muon", batch_rows=32)
    optimizers = build_optimizers(model, config, matrix_rate=0.01, other_rate=0.01)
    embedding = model.embed_tokens.weight
    start = embedding.detach().clone()
    slopes = torch.full_like(start, 1e-8)
    slopes[0] = 1 / (32 * SHAPE.context)  # met once a batch
    for _ in range(50):
        embedding.grad = slopes.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (embedding.detach() - start).abs().amax(1)
    assert moved[0] > 0.4  # nearly the whole rate each step
    assert moved[1:].max() < 0.05 * moved[0]
    tiny = LoopConfig(optimizer="muon", batch_rows=1)  # 1e-5 at most, where it was measured
    assert eps_of(tiny, "embedding", SHAPE.context) == pytest.approx(0.08 / 8192)
    assert eps_of(tiny, "matrices", SHAPE.context) == 1e-8
    given = LoopConfig(optimizer="muon", eps=1e-6)
    groups = build_optimizers(model, given, matrix_rate=0.01, other_rate=0.01)[1].param_groups
    assert {group["eps"] for group in groups} == {1e-6}


@needs_8_bit
def test_8_bit_states_take_two_bytes_a_weight_and_step_as_adamw_does() -> None:
    def trained(kind: str) -> tuple[Tensor, int]:
        torch.manual_seed(0)
        model = Decoder(SHAPE).initialize(0)
        config = LoopConfig.model_validate({"optimizer": kind, "weight_decay": 0.0})
        optimizer = build_optimizers(model, config, matrix_rate=0.01, other_rate=0.01)[0]
        weights = model.layers[0].mlp.up_proj.weight
        start = weights.detach().clone()
        for step in range(4):
            for weight in model.parameters():
                weight.grad = values(step, *weight.shape)
            optimizer.step()
        states = optimizer.state[weights]
        sizes = [
            v.numel() * v.element_size()
            for v in states.values()
            if isinstance(v, Tensor) and v.shape == weights.shape
        ]
        return weights.detach() - start, sum(sizes)

    exact, full_size = trained("adamw")
    close, size = trained("adamw8bit")
    assert full_size == 4 * size == 8 * exact.numel()
    assert torch.nn.functional.cosine_similarity(exact.flatten(), close.flatten(), dim=0) > 0.98


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(InputError, match=r"needs bitsandbytes.*fledge\[8bit\]"):
        build_optimizers(
            Decoder(SHAPE), LoopConfig(optimizer="adamw8bit"), matrix_rate=0.1, other_rate=0.1
        )


def steps(
    model: Decoder, optimizers: list[torch.optim.Optimizer], loader: PackedLoader, numbers: range
) -> None:
    for number in numbers:
        batch = loader[number]
        loss = cross_entropy()(model, batch) / batch.weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        set_rate(optimizers, 1 / (number + 1))
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_six_steps_are_three_and_three(tmp_path: Path, optimizer: str, ema: float | None) -> None:
    """A state saved after three steps and loaded into new objects goes on to the same bits."""
    data = TokenShards(pattern_shards(tmp_path), "train")
    loader = PackedLoader(data, context=16, batch_rows=4, seed=0)
    config = LoopConfig.model_validate(
        {"optimizer": optimizer, "ema": ema, "weight_decay": 0.1, "batch_rows": 4}
    )

    def fresh() -> tuple[Decoder, list[torch.optim.Optimizer]]:
        model = Decoder(SHAPE).initialize(3)
        return model, build_optimizers(model, config, matrix_rate=0.01, other_rate=0.02)

    model, optimizers = fresh()
    steps(model, optimizers, loader, range(6))
    first, first_optimizers = fresh()
    steps(first, first_optimizers, loader, range(3))
    file = io.BytesIO()
    states = [one.state_dict() for one in first_optimizers]
    torch.save({"model": first.state_dict(), "optimizers": states}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, second_optimizers = fresh()
    second.load_state_dict(saved["model"])
    for one, state in zip(second_optimizers, saved["optimizers"], strict=True):
        one.load_state_dict(state)
    steps(second, second_optimizers, loader, range(3, 6))
    for settled in (False, True):  # the weights, then their average
        for one, other in zip(model.parameters(), second.parameters(), strict=True):
            assert torch.equal(one, other)
        if not settled:
            settle(optimizers)
            settle(second_optimizers)


def test_the_average_is_its_closed_form() -> None:
    """A(n) = sum of the weights of each step times how much of it is kept since."""
    weight = torch.nn.Parameter(torch.zeros(3))
    average = Average([weight], 0.7)
    expected, course = torch.zeros(3), []
    for n in range(1, 40):
        with torch.no_grad():
            weight.copy_(values(n, 3))
        average.step()
        kept = min(0.7, (1 + n) / (10 + n))
        expected = expected * kept + values(n, 3) * (1 - kept)
        course.append(kept)
    with averaged([average]):
        torch.testing.assert_close(weight.detach(), expected)
    assert course[0] == pytest.approx(2 / 11)
    assert course[-1] == 0.7


def test_half_of_the_average_is_younger_than_the_half_life() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average = Average([weight], 0.95)
    for _ in range(400):
        average.step()
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(round(math.log(2) / 0.05)):
        average.step()
    with averaged([average]):
        assert weight.item() == pytest.approx(0.5, abs=0.03)


def test_weights_come_back_bit_for_bit_also_after_an_error() -> None:
    weight = torch.nn.Parameter(values(0, 4))
    average = Average([weight], 0.9)
    average.step()
    with torch.no_grad():
        weight.mul_(1.1)
    before, state = weight.detach().clone(), average.state[weight]["average"].clone()

    def judge() -> None:
        with averaged([average]):
            assert not torch.equal(weight, before)
            raise RuntimeError("halt")

    with pytest.raises(RuntimeError, match="halt"):
        judge()
    assert torch.equal(weight, before)
    assert torch.equal(average.state[weight]["average"], state)
    settle([average])
    settle([average])
    assert torch.equal(weight, state)
    with averaged([]):
        assert torch.equal(weight, state)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ema": 1.0},
        {"ema": 0.0},
        {"betas": [0.9, 1.0]},
        {"betas": [0.9]},
        {"momentum": 1.0},
        {"eps": 0},
        {"optimizer": "sgd"},
        {"vector_weight_decay": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        parse_config(LoopConfig, wrong, "recipe")
