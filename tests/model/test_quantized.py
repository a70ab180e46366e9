"""Eight and four bits: errors within their bounds, the layout of bitsandbytes, bits that stay."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import norm
from torch import Tensor

from fledge.core.errors import InputError
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.linear import Linear
from fledge.model.quantization import (
    NF4_CODES,
    dequantize_int8,
    dequantize_nf4,
    quantize_int8,
    quantize_nf4,
)
from fledge.model.quantized import Int8Linear, NF4Linear, quantize_linears


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


matrices = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    elements=st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20),
)


@settings(max_examples=50, deadline=None)
@given(matrices, st.sampled_from([1, 7, 32]), st.sampled_from([torch.float16, torch.float32]))
def test_int8_error_is_half_a_step(
    matrix: np.ndarray, group: int, scale_dtype: torch.dtype
) -> None:
    weight = torch.from_numpy(matrix)
    packed = quantize_int8(weight, group, scale_dtype)
    outputs, inputs = weight.shape
    assert packed["codes"].dtype == torch.int8
    assert packed["codes"].shape == weight.shape
    assert packed["scales"].shape == (outputs, math.ceil(inputs / group))
    assert packed["scales"].dtype == scale_dtype
    assert packed["codes"].abs().max() <= 127
    back = dequantize_int8(packed, group)
    steps = packed["scales"].double().repeat_interleave(group, 1)[:, :inputs]
    error = (weight.double() - back.double()).abs()
    assert (error <= steps * 0.5 * (1 + 1e-4)).all()
    assert torch.equal(back == 0, packed["codes"] == 0)


@settings(max_examples=50, deadline=None)
@given(matrices, st.sampled_from([2, 16, 64]), st.booleans())
def test_nf4_takes_the_nearest_code(matrix: np.ndarray, group: int, double: bool) -> None:
    weight = torch.from_numpy(matrix)
    packed = quantize_nf4(weight, group, double)
    back = dequantize_nf4(packed, tuple(weight.shape), group)  # type: ignore[arg-type]
    blocks = math.ceil(weight.numel() / group)
    assert packed["codes"].dtype == torch.uint8
    assert packed["codes"].numel() == blocks * group // 2
    assert back.shape == weight.shape
    if double:  # the scale of a block is itself rounded: bounded below by what is left of it
        assert packed["scales"].dtype == torch.int8
        assert back.isfinite().all()
        return
    scales = packed["scales"].double().repeat_interleave(group)[: weight.numel()]
    choices = scales[:, None] * torch.tensor(NF4_CODES).double()
    error = (weight.double().flatten() - back.double().flatten()).abs()
    best = (weight.double().flatten()[:, None] - choices).abs().amin(1)
    assert (error <= best + 1e-6 * scales).all()
    assert (error <= 0.152 * scales).all()


def test_codebook_is_the_papers_quantiles() -> None:
    """Appendix E: 8 quantiles above zero, 7 below, the offset between them, scaled to 1."""
    offset = 0.9677083
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    codes = np.sort(np.concatenate((above, [0.0], below)))
    assert np.allclose(codes / codes.max(), NF4_CODES, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(8, 64), (12, 96), (5, 128)])
def test_nf4_is_laid_out_as_in_bitsandbytes(shape: tuple[int, int]) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = normal(*shape)
    try:
        theirs, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
        back = functional.dequantize_4bit(theirs, state)
    except Exception as error:
        pytest.skip(f"bitsandbytes does not work here: {error}")
    packed = quantize_nf4(weight, 64)
    assert torch.equal(state.code, torch.tensor(NF4_CODES))
    assert torch.equal(packed["scales"], state.absmax)
    assert torch.equal(packed["codes"], theirs.flatten())
    if shape[1] % 64 == 0:  # where blocks cross rows its CPU kernel reads wrong scales back
        assert torch.allclose(dequantize_nf4(packed, shape, 64), back, atol=1e-7)


def test_double_quantization_costs_little() -> None:
    weight = normal(256, 256)
    errors = []
    for double in (False, True):
        back = dequantize_nf4(quantize_nf4(weight, 64, double), (256, 256), 64)
        errors.append(float((back - weight).square().mean().sqrt()))
    assert 0.05 < errors[0] < 0.12  # a normal deviate in 4 bits
    assert errors[0] < errors[1] * 1.001
    assert errors[1] < errors[0] * 1.01


def test_rounding_of_scales_never_cuts_a_code() -> None:
    weight = normal(64, 64, seed=4)
    half, exact = (quantize_int8(weight, 32, t) for t in (torch.float16, torch.float32))
    assert (half["scales"].double() >= exact["scales"].double()).all()
    assert (half["scales"].double() <= exact["scales"].double() * (1 + 2**-10)).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("how", ["int8", "nf4", "nf4 double"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_multiplies_by_what_its_bits_mean(how: str, bias: bool, dtype: torch.dtype) -> None:
    weight, b = normal(12, 40), normal(12, seed=1) if bias else None
    layer = (
        Int8Linear(weight, b, group=16)
        if how == "int8"
        else NF4Linear(weight, b, group=16, double="double" in how)
    )
    x = normal(2, 3, 40, seed=2).to(dtype).requires_grad_()
    y = layer(x)
    dense = layer.weight.to(dtype)
    expected = F.linear(x.detach(), dense)
    assert torch.equal(y.detach(), expected if b is None else expected + b.to(dtype))
    assert y.dtype == dtype
    assert (layer.weight - weight).abs().max() < (0.05 if how == "int8" else 0.6)
    g = normal(2, 3, 12, seed=3).to(dtype)
    y.backward(g)
    assert x.grad is not None
    assert torch.allclose(x.grad, g @ dense, atol=1e-5 if dtype == torch.float32 else 1e-1)
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_gradient_is_right_to_many_digits() -> None:
    layer = NF4Linear(normal(5, 8), group=8)
    x = normal(2, 8, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_training_keeps_no_dense_matrix() -> None:
    layer = NF4Linear(normal(64, 128))
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(normal(2, 128).requires_grad_()).square().sum().backward()
    assert kept
    assert max(kept) < 64 * 128


@pytest.mark.parametrize("shape", [(6, 64), (6, 100), (1, 1)])
@pytest.mark.parametrize("group", [32, 64])
def test_memory_is_as_computed(shape: tuple[int, int], group: int) -> None:
    outputs, inputs = shape
    weight = normal(*shape)
    groups = math.ceil(inputs / group)
    assert Int8Linear(weight, group=group).stored_bytes == outputs * (inputs + 2 * groups)
    blocks = math.ceil(outputs * inputs / group)
    assert NF4Linear(weight, group=group).stored_bytes == blocks * (group // 2 + 4)
    double = NF4Linear(weight, group=group, double=True).stored_bytes
    # A block: half a byte a number and one byte of scale; then 4 bytes every 256, and the mean.
    assert double == blocks * (group // 2 + 1) + 4 * math.ceil(blocks / 256) + 4


def tiny_decoder(seed: int = 0) -> Decoder:
    config = ModelConfig(
        vocab_size=50,
        width=64,
        depth=2,
        heads=4,
        kv_heads=2,
        head_size=16,
        ffn=128,
        context=32,
        tied=False,
    )
    model = Decoder(config)
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            if weight.ndim == 2:
                weight.copy_(normal(*weight.shape, seed=seed + number) * weight.shape[1] ** -0.5)
    return model.eval()


IDS = torch.randint(0, 50, (2, 32), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_decoder_stays_close() -> None:
    exact = tiny_decoder()(IDS)
    errors = {}
    for how, options in (
        ("int8", {"group": 32}),
        ("nf4", {}),
        ("nf4", {"double": True}),
        ("int8", {"skip": ()}),
    ):
        model = tiny_decoder()
        names = quantize_linears(model, how, **options)  # type: ignore[arg-type]
        assert len(names) == 14 + ("skip" in options)
        assert ("lm_head" in names) == ("skip" in options)
        gap = (model(IDS) - exact).square().mean().sqrt() / exact.std()
        errors[how, *options] = float(gap)
    assert 0 < errors["int8", "group"] < 0.05
    assert 0 < errors["int8", "skip"] < 0.05
    assert errors["int8", "group"] < errors["nf4",] < 0.4
    assert abs(errors["nf4", "double"] - errors["nf4",]) < 0.02
    assert errors["int8", "group"] < 0.1 * errors["nf4",]


@pytest.mark.parametrize("how", ["int8", "nf4", "nf4 double"])
@torch.no_grad()
def test_state_dict_round_trip_is_bit_exact(how: str) -> None:
    method, double = how.split()[0], "double" in how
    models = [tiny_decoder(seed) for seed in (0, 100)]
    for model in models:
        quantize_linears(model, method, double=double)  # type: ignore[arg-type]
    first, second = models
    assert not torch.equal(first(IDS), second(IDS))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(first(IDS), second(IDS))
    for name, tensor in first.state_dict().items():
        assert tensor.dtype == second.state_dict()[name].dtype
        assert torch.equal(tensor, second.state_dict()[name])


@pytest.mark.parametrize("how", ["int8", "nf4", "nf4 double"])
def test_changing_the_type_of_a_model_leaves_the_bits(how: str) -> None:
    model = tiny_decoder()
    quantize_linears(model, how.split()[0], double="double" in how)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in model.named_buffers() if "layers" in name}
    model.to(torch.bfloat16).half().float().double()
    after = dict(model.named_buffers())
    assert before
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor)
    assert model.embed_tokens.weight.dtype == torch.float64
    empty = model.to("meta")
    assert {tensor.device.type for tensor in empty.buffers()} == {"meta"}


def test_a_bias_moves_and_changes_type() -> None:
    layer = Int8Linear(normal(3, 4), normal(3)).to(torch.bfloat16)
    assert layer.bias is not None
    assert layer.bias.dtype == torch.bfloat16
    assert layer.scales.dtype == torch.float16


def test_zeros_and_extremes() -> None:
    zeros = torch.zeros(3, 10)
    for double in (False, True):
        packed = quantize_nf4(zeros, 4, double)
        assert torch.equal(dequantize_nf4(packed, (3, 10), 4), zeros)
    assert torch.equal(dequantize_int8(quantize_int8(zeros, 4), 4), zeros)
    one = torch.tensor([[1e-6, -1e-6]])
    assert (dequantize_int8(quantize_int8(one, 2), 2) - one).abs().max() <= 2**-25
    with pytest.raises(InputError, match="too large for int8 scales"):
        quantize_int8(torch.tensor([[1e8]]), 1)


def test_wrong_use_is_refused() -> None:
    model = tiny_decoder()
    with pytest.raises(InputError, match="quantization 'int3' is not known"):
        quantize_linears(model, "int3")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="for nf4 only"):
        quantize_linears(model, "int8", double=True)
    with pytest.raises(InputError, match="group 0 is not positive"):
        quantize_linears(model, "int8", group=0)
    with pytest.raises(InputError, match="group 3 is odd"):
        quantize_linears(model, "nf4", group=3)
    assert type(model.layers[0].self_attn.q_proj) is Linear
    with torch.no_grad():
        model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN"):
        quantize_linears(model, "nf4")
    with pytest.raises(InputError, match="no linear layer"):
        quantize_linears(torch.nn.Sequential(torch.nn.ReLU()), "int8")
