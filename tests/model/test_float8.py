"""Products in 8-bit floats: as near as their bits allow, and a model learns with them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fledge.core.errors import InputError
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.model.float8 import GRADIENTS, VALUES, float8_linear, scaled
from fledge.model.linear import Linear
from fledge.model.lora import LoraLinear, adapt
from fledge.model.lora_config import LoraConfig
from fledge.train import device as room
from fledge.train.config import LoopConfig


@pytest.mark.parametrize("dtype", [VALUES, GRADIENTS])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_largest_number_fills_the_range(dtype: torch.dtype, size: float) -> None:
    x = torch.randn(64, 32) * size
    eight, scale = scaled(x, dtype)
    assert eight.float().abs().max() == torch.finfo(dtype).max
    step = 2.0 ** -(3 if dtype == VALUES else 2)  # half a step of the mantissa, and rounding
    error = (eight.float() * scale - x).abs()
    assert (error <= x.abs() * step / 2 * 1.01 + scale * torch.finfo(dtype).tiny).all()


def test_zeros_stay_zeros() -> None:
    eight, scale = scaled(torch.zeros(16, 16), VALUES)
    assert eight.float().eq(0).all()
    assert scale > 0


def test_products_and_gradients_are_near() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 64, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(48, 64, requires_grad=True)
    bias = torch.randn(48, dtype=torch.bfloat16)
    slope = torch.randn(2, 32, 48, dtype=torch.bfloat16)
    found = []
    for product in (float8_linear, lambda x, w, b: F.linear(x, w.to(x.dtype), b)):
        out = product(x, weight, bias)
        found.append((out, *torch.autograd.grad(out, (x, weight), slope)))
    for near, exact in zip(*found, strict=True):
        assert near.dtype == exact.dtype
        assert near.shape == exact.shape
        difference = (near.float() - exact.float()).norm() / exact.float().norm()
        assert 0.005 < difference < 0.08, "8 bits: 2 to 3 bits of mantissa, averaged over a row"


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(5, 64, 48), (16, 60, 48), (16, 64, 50)])
def test_what_the_hardware_cannot_multiply_stays_exact(
    rows: int, inputs: int, outputs: int
) -> None:
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    assert torch.equal(float8_linear(x, weight), F.linear(x, weight))


def test_a_model_learns_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "has_float8", lambda device: True)
    losses = {}
    for precision in ("bf16", "fp8"):
        model = Decoder(derive(2, 64, 32, width=64, heads=4, kv_heads=2, tied=True)).initialize(0)
        config = LoopConfig(precision=precision)
        room.set_arithmetic(model, config, torch.device("cpu"))
        torch.manual_seed(0)
        ids = torch.randint(0, 64, (4, 33))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(60):
            logits = model(ids[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[precision] = loss.item()
    assert losses["fp8"] != losses["bf16"], "the layers were not computed in 8 bits"
    assert losses["fp8"] == pytest.approx(losses["bf16"], abs=0.15)
    assert losses["fp8"] < 1.0


def test_only_plain_layers_change() -> None:
    model = Decoder(derive(1, 64, 32, width=64, heads=4, kv_heads=2, tied=False)).initialize(0)
    adapt(model, ["layers.0.mlp.down_proj"], LoraConfig(rank=2))
    assert isinstance(model.layers[0].mlp.down_proj, LoraLinear)
    model.use_float8()
    chosen = {n for n, m in model.named_modules() if isinstance(m, Linear) and m.float8}
    assert "layers.0.self_attn.q_proj" in chosen
    assert "lm_head" not in chosen


def test_a_device_without_them_says_so() -> None:
    with pytest.raises(InputError, match="8-bit floats"):
        room.choose_precision(LoopConfig(precision="fp8"), torch.device("cpu"))
