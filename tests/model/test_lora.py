"""LoRA starts as nothing, learns, switches off, and merges to the same function."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fledge.core.errors import InputError
from fledge.model.linear import Linear, fused_linear
from fledge.model.lora import (
    LoraLinear,
    add_lora,
    lora_disabled,
    lora_layers,
    lora_state,
    merge_lora,
    remove_lora,
)
from fledge.model.lora_config import LoraConfig
from fledge.model.quantized import quantize_linears
from lora_decoder import CONFIGS, ids, shake_lora, tiny_decoder


def one_layer(
    config: LoraConfig, *, inputs: int = 12, outputs: int = 7, bias: bool = True
) -> LoraLinear:
    linear = Linear(inputs, outputs, bias)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in linear.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return LoraLinear(linear, config, generator)


def test_scales_are_those_of_the_papers() -> None:
    assert LoraConfig(rank=16, alpha=8).scale == 0.5
    assert LoraConfig(rank=16, alpha=8, stabilised=True).scale == 2.0


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("config", CONFIGS)
def test_a_layer_is_the_closed_form(config: LoraConfig, bias: bool) -> None:
    layer = one_layer(config, bias=bias)
    shake_lora(layer, 0.5)
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))
    change = config.scale * layer.lora_B.detach() @ layer.lora_A.detach()
    matrix = layer.base.weight + change
    if config.dora:
        assert layer.magnitude is not None
        matrix = layer.magnitude[:, None] * matrix / matrix.norm(dim=1, keepdim=True)
    expected = F.linear(x, matrix, layer.base.bias)
    assert torch.allclose(layer(x), expected, atol=1e-5)
    assert torch.allclose(F.linear(x, layer.weight, layer.base.bias), expected, atol=1e-5)
    assert not torch.allclose(layer(x), layer.base(x), atol=1e-2)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_layer_changes_no_bit(config: LoraConfig, dtype: torch.dtype) -> None:
    layer = one_layer(config)
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(2)).to(dtype)
    assert torch.equal(layer(x), layer.base(x))
    assert layer(x).dtype == dtype
    assert layer.lora_A.abs().max() > 0.1
    assert layer.lora_A.abs().max() <= 12**-0.5


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_a_decoder_starts_unchanged_learns_switches_off_and_merges(config: LoraConfig) -> None:
    model = tiny_decoder()
    # Projections of one input are one product; LoRA computes them apart, so compare with that.
    before = model(ids())
    frozen = {name: weight.clone() for name, weight in model.state_dict().items()}
    names = add_lora(model, config)
    assert len(names) == 2 * 7
    assert (model(ids()) - before).abs().max() <= 1e-6
    start = model(ids())

    shake_lora(model)
    after = model(ids())
    assert (after - before).abs().max() > 0.05
    with lora_disabled(model):
        assert torch.equal(model(ids()), start)
        with lora_disabled(model):
            pass
        assert torch.equal(model(ids()), start)  # the inner block switched nothing on
    assert torch.equal(model(ids()), after)

    assert merge_lora(model) == names
    assert not lora_layers(model)
    assert (model(ids()) - after).abs().max() <= 2e-5
    assert model.state_dict().keys() == frozen.keys()
    assert all(weight.requires_grad for weight in model.parameters())


def test_disabling_ends_with_an_error_too() -> None:
    model = tiny_decoder()
    add_lora(model, LoraConfig())
    with pytest.raises(KeyError), lora_disabled(model):
        raise KeyError
    assert all(layer.enabled for layer in lora_layers(model).values())


@pytest.mark.parametrize("config", CONFIGS)
def test_only_the_small_matrices_learn(config: LoraConfig) -> None:
    model = tiny_decoder()
    add_lora(model, config)
    frozen = {
        name: weight.clone() for name, weight in model.state_dict().items() if "lora" not in name
    }
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    assert {id(weight) for weight in trainable} == {id(t) for t in lora_state(model).values()}
    optimizer = torch.optim.Adam(trainable, lr=2e-2)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(ids())[:, :-1].flatten(0, 1), ids()[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    after = model.state_dict()
    changed = {name for name in frozen if not torch.equal(frozen[name], after[name])}
    assert changed == {name for name in frozen if name.endswith("magnitude")}
    assert bool(changed) == config.dora
    remove_lora(model)
    assert {name.replace(".base.", ".") for name in frozen if "magnitude" not in name} == set(
        model.state_dict()
    )


def test_gradients_of_dora_hold_the_length_constant() -> None:
    """Section 4.3: the norm gets no gradient; checked against autograd on the closed form."""
    config = CONFIGS[2]
    layer = one_layer(config)
    shake_lora(layer, 0.3)
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))
    layer(x).square().sum().backward()
    A, B = (t.detach().clone().requires_grad_() for t in (layer.lora_A, layer.lora_B))
    assert layer.magnitude is not None
    m = layer.magnitude.detach().clone().requires_grad_()
    matrix = layer.base.weight.detach() + config.scale * B @ A
    length = matrix.detach().norm(dim=1, keepdim=True)
    y = F.linear(x, m[:, None] * matrix / length, layer.base.bias)
    y.square().sum().backward()
    for ours, theirs in ((layer.lora_A, A), (layer.lora_B, B), (layer.magnitude, m)):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert layer.base.weight.grad is None


def test_an_output_of_zeros_stays_finite_under_dora() -> None:
    linear = Linear(4, 2, True)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(1.0)
    layer = LoraLinear(linear, LoraConfig(dora=True), torch.Generator())
    assert torch.equal(layer(torch.ones(1, 4)), torch.ones(1, 2))


def test_dropout_acts_in_training_only() -> None:
    layer = one_layer(LoraConfig(rank=4, dropout=0.5))
    shake_lora(layer)
    x = torch.randn(5, 12)
    torch.manual_seed(0)
    assert not torch.equal(layer.train()(x), layer.train()(x))
    assert torch.equal(layer.eval()(x), layer.eval()(x))


def test_seed_decides() -> None:
    states = []
    for seed in (1, 1, 2):
        model = tiny_decoder()
        add_lora(model, LoraConfig(), seed=seed)
        states.append(lora_state(model))
    first, second, other = states
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "layers.0.self_attn.q_proj.lora_A"
    assert not torch.equal(first[name], other[name])


def test_fused_projections_go_through_lora() -> None:
    layers = [one_layer(CONFIGS[0]) for _ in range(2)]
    for layer in layers:
        shake_lora(layer)
    x = torch.randn(3, 12)
    for found, layer in zip(fused_linear(x, *layers), layers, strict=True):
        assert torch.equal(found, layer(x))


def test_targets_and_their_absence() -> None:
    model = tiny_decoder(gated=False)
    names = add_lora(model, LoraConfig())  # no gate_proj there, and that is no error
    assert not any(name.endswith("gate_proj") for name in names)
    with pytest.raises(InputError, match="has LoRA already"):
        add_lora(model, LoraConfig())
    with pytest.raises(InputError, match=r"'q_prj' is not in the model; did you mean 'q_proj'\?"):
        add_lora(tiny_decoder(), LoraConfig(targets=("q_prj",)))
    head = tiny_decoder()
    assert add_lora(head, LoraConfig(targets=("lm_head",))) == ["lm_head"]
    with torch.no_grad():
        start = head(ids())
        assert torch.equal(start, tiny_decoder()(ids()))
        shake_lora(head)
        shaken = head(ids())
        assert (shaken - start).abs().max() > 0.05
        merge_lora(head)
        assert (head(ids()) - shaken).abs().max() <= 1e-5


def test_merging_keeps_the_type_of_the_base() -> None:
    model = tiny_decoder().to(torch.bfloat16)
    add_lora(model, LoraConfig())
    assert {tensor.dtype for tensor in lora_state(model).values()} == {torch.float32}
    shake_lora(model)
    merge_lora(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, 12),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    dora=st.booleans(),
    stabilised=st.booleans(),
)
def test_merging_is_the_function_for_any_shape(
    rank: int, inputs: int, outputs: int, dora: bool, stabilised: bool
) -> None:
    config = LoraConfig(rank=rank, dora=dora, stabilised=stabilised)
    model = nn.Sequential(Linear(inputs, outputs, True))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(rank)))
    add_lora(model, config.model_copy(update={"targets": ("0",)}))
    shake_lora(model, 0.2)
    x = torch.randn(3, inputs, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(x)
        merge_lora(model)
        assert torch.allclose(model(x), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]])
def test_qlora_trains_over_frozen_bits(config: LoraConfig) -> None:
    model = tiny_decoder()
    quantize_linears(model, "nf4", group=16, double=True)
    add_lora(model, config)
    bits = {name: tensor.clone() for name, tensor in model.named_buffers()}
    optimizer = torch.optim.Adam(lora_state(model).values(), lr=2e-2)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(ids())[:, :-1].flatten(0, 1), ids()[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    after = dict(model.named_buffers())
    assert len(bits) > 14
    assert all(torch.equal(bits[name], after[name]) for name in bits)
    with torch.no_grad():
        trained = model(ids())
        merge_lora(model)
        assert (model(ids()) - trained).abs().max() <= 2e-5
    assert type(model.get_submodule("layers.0.self_attn.q_proj")) is Linear
