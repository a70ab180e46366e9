"""Several processes train as one does: the same losses, whatever the optimizer and the pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from toy_training import SHAPE, STEPS, losses, run_several, toy_training, validations, weights

from fledge.core.errors import InputError
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.checkpoint import Checkpoints
from fledge.train.config import LoopConfig
from fledge.train.objective import cross_entropy
from fledge.train.parallel import (
    clip_gradients,
    gathered,
    prepare,
    recompute_layers,
    spread,
    sync_gradients,
    whole_model,
)
from fledge.train.world import ALONE, World

TOLERANCE = 1e-4


def alone(out: Path, **options: Any) -> Path:
    """The run of one process, in this one."""
    toy_training(out, **options)
    return out


def same_curve(one: Path, other: Path) -> None:
    assert len(losses(one)) == STEPS
    assert losses(one)[-1] < losses(one)[0] - 1  # it learns, so that there is something to compare
    assert losses(one) == pytest.approx(losses(other), abs=TOLERANCE)
    assert validations(one) == pytest.approx(validations(other), abs=TOLERANCE)


@pytest.mark.timeout(120)
def test_two_processes_train_as_one_and_one_goes_on_from_their_state(tmp_path: Path) -> None:
    options = {"optimizer": "muon", "activation_checkpointing": True, "ema": 0.9}
    one = alone(tmp_path / "one", **options)
    code, printed = run_several(2, tmp_path / "two", **options)
    assert code == 0, printed
    assert "trained by 2" in printed
    same_curve(one, tmp_path / "two")
    state = Checkpoints(tmp_path / "two" / "state").load()
    assert state is not None
    assert state["position"]["step"] == STEPS
    assert {type(value) for value in state["model"].values()} == {torch.Tensor}
    assert state["model"]["embed_tokens.weight"].shape == (SHAPE.vocab_size, SHAPE.width)
    # A finished run that is run again trains nothing and ends in the same weights.
    before = weights(tmp_path / "two")
    toy_training(tmp_path / "two", **options)
    assert_equal(weights(tmp_path / "two"), before)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lora", ["lora", "dora", "nf4"])
def test_beside_a_frozen_model_several_train_as_one(tmp_path: Path, lora: str) -> None:
    options = {"lora": lora, "eps": 1e-4, "steps": 20}  # later, rounding errors have grown
    one = alone(tmp_path / "one", **options)
    code, printed = run_several(2, tmp_path / "two", **options)
    assert code == 0, printed
    assert losses(one) == pytest.approx(losses(tmp_path / "two"), abs=TOLERANCE)
    assert losses(one)[-1] < losses(one)[0] - 1
    state = Checkpoints(tmp_path / "two" / "state").load()
    assert state is not None
    parts = {name.rpartition(".")[2] for name in state["model"]}
    assert parts == {"lora_A", "lora_B", "rows"} | ({"magnitude"} if lora == "dora" else set())
    before = weights(tmp_path / "two")
    toy_training(tmp_path / "two", **options)  # one process goes on from where two were
    assert_equal(weights(tmp_path / "two"), before)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw"},
        {"optimizer": "muon", "micro_rows": None},
        {"optimizer": "muon", "micro_rows": 1, "weight_decay": 0.1, "z_loss": 1e-4},
        {"optimizer": "lion", "learning_rate": 1e-3, "ema": 0.9},
        {"optimizer": "adamw", "clip": 0.0, "activation_checkpointing": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_curve_is_that_of_one_process(
    tmp_path: Path, processes: int, options: dict[str, Any]
) -> None:
    one = alone(tmp_path / "one", **options)
    code, printed = run_several(processes, tmp_path / "several", **options)
    assert code == 0, printed
    same_curve(one, tmp_path / "several")
    ours, theirs = weights(one), weights(tmp_path / "several")
    for name, weight in ours.items():
        assert float((weight - theirs[name]).abs().max()) < 5e-3, name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_generated_code_trains_spread_layers(tmp_path: Path) -> None:
    one = alone(tmp_path / "one")
    code, printed = run_several(2, tmp_path / "two", compile=True)
    assert code == 0, printed
    same_curve(one, tmp_path / "two")
    state = Checkpoints(tmp_path / "two" / "state").load()
    assert state is not None
    assert state["position"]["compiled"]


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def small() -> tuple[Decoder, Batch]:
    ids = torch.randint(SHAPE.vocab_size, (4, 17), generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(4, 16, dtype=torch.long)
    return Decoder(SHAPE).initialize(0), Batch(ids[:, :-1], ids[:, 1:], zeros, torch.ones(4, 16))


def test_recomputed_layers_give_the_same_gradients_bit_for_bit() -> None:
    found = []
    for recompute in (False, True):
        model, batch = small()
        if recompute:
            recompute_layers(model)
        cross_entropy()(model, batch).backward()  # type: ignore[no-untyped-call]
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert_equal(*found)


def test_recomputed_layers_keep_less_for_the_backward_pass() -> None:
    kept = []
    for recompute in (False, True):
        model, batch = small()
        if recompute:
            recompute_layers(model)
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.hidden(batch.ids, batch.segments).sum()
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


@pytest.mark.parametrize("limit", [0.0, 0.01, 1e6])
def test_gradients_are_clipped_as_torch_clips_them(limit: float) -> None:
    ours, batch = small()
    cross_entropy()(ours, batch).backward()  # type: ignore[no-untyped-call]
    theirs, _ = small()
    cross_entropy()(theirs, batch).backward()  # type: ignore[no-untyped-call]
    norm = clip_gradients(ours.parameters(), limit)
    assert norm == float(clip_grad_norm_(theirs.parameters(), limit or float("inf")))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_a_process_by_itself_is_left_as_it_is() -> None:
    model, batch = small()
    assert spread(model, ALONE) is model
    assert whole_model(model, ALONE) is model
    assert not any(isinstance(weight, DTensor) for weight in model.parameters())
    sync_gradients(model, False)
    loss = gathered(model, cross_entropy(), model, batch)
    assert torch.equal(loss, cross_entropy()(model, batch))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_rows": 9}, "batch_rows = 9 cannot be divided among 2 processes"),
        ({"optimizer": "adamw8bit"}, "adamw8bit"),
    ],
)
def test_what_several_cannot_do_is_said_before_training(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        prepare(small()[0], LoopConfig(**options), World(rank=1, size=2))
