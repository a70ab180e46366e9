"""Attention by FlexAttention: what the dense mask gives, forward and backward, and traceable.

Its kernels are for GPUs; here its reference implementation runs, which reads the same masks.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention

from fledge.core import Silent
from fledge.model.config import ModelConfig, derive
from fledge.model.decoder import Decoder
from fledge.train import compile as room
from fledge.train.batch import Batch
from fledge.train.objective import cross_entropy

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own tracing warns of itself


@pytest.fixture(autouse=True)
def _gradients_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses them, since its *kernels* for CPUs lack them; its reference has them."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)


def _config(window: int | None, kv_heads: int) -> ModelConfig:
    shape = derive(2, 64, 200, width=64, heads=4, kv_heads=kv_heads, tied=True)
    return shape.model_copy(update={"window": window})


def _batch(documents: bool) -> Batch:
    torch.manual_seed(1)
    ids = torch.randint(0, 64, (2, 200))
    segments = torch.arange(200).div(37, rounding_mode="floor").expand(2, -1).clone()
    segments[1] = segments[1].div(2, rounding_mode="floor")
    segments[1, 190:] = -1  # padding
    return Batch(ids, ids.roll(-1, 1), segments * documents, torch.ones(ids.shape))


def _loss_and_gradients(model: Decoder, batch: Batch, objective: object) -> list[Tensor]:
    assert callable(objective)
    model.zero_grad()
    loss = objective(model, batch)
    loss.backward()
    gradients = [weight.grad for weight in model.parameters()]
    return [loss.detach(), *(one.clone() for one in gradients if one is not None)]


@pytest.mark.parametrize("documents", [True, False])
@pytest.mark.parametrize("window", [None, 1, 20])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_sparse_is_dense(documents: bool, window: int | None, kv_heads: int) -> None:
    model = Decoder(_config(window, kv_heads)).initialize(0)
    with torch.no_grad():
        for weight in model.parameters():  # layers start as the identity: hide nothing behind that
            weight += torch.randn_like(weight) * 0.05
    batch, objective = _batch(documents), cross_entropy()
    dense = _loss_and_gradients(model, batch, objective)
    sparse = _loss_and_gradients(model, batch, room._sparsely(objective))
    assert model.sparse is False, "what measures the model must not be slowed down"
    assert len(sparse) == len(dense)
    for one, other in zip(sparse, dense, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)


def test_the_whole_objective_is_traced_with_it() -> None:
    model = Decoder(_config(20, 2)).initialize(0)
    batch, objective = _batch(True), cross_entropy()
    dense = _loss_and_gradients(model, batch, objective)
    torch.compiler.reset()
    traced = torch.compile(objective, dynamic=False, fullgraph=True, backend="aot_eager")
    sparse = _loss_and_gradients(model, batch, room._sparsely(traced))
    for one, other in zip(sparse, dense, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)


def test_where_it_cannot_be_generated_the_dense_mask_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def generate(objective: object, **_: object) -> object:
        def run(model: Decoder, batch: Batch) -> Tensor:
            asked.append(model.sparse)
            if model.sparse:
                raise RuntimeError("no kernel for this")
            return cross_entropy()(model, batch)

        return run

    monkeypatch.setattr(torch, "compile", generate)
    model, batch = Decoder(_config(None, 4)).initialize(0), _batch(True)
    fast = room._generated(cross_entropy(), model, batch, Silent(), sparse=True)
    assert fast is not None
    assert asked == [True, False]
    assert model.sparse is False
