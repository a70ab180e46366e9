"""The parts that no transformers layout has, against closed forms; windows; compiled graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fledge.model.attention import causal_mask, windowed
from fledge.model.cache import KVCache
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.ffn import FeedForward
from fledge.model.linear import Linear, fused_linear


def config_of(**changes: Any) -> ModelConfig:
    shape: dict[str, Any] = {
        "vocab_size": 50,
        "width": 24,
        "depth": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 6,
        "ffn": 40,
        "context": 32,
    }
    return ModelConfig.model_validate({**shape, **changes})


def filled(**changes: Any) -> Decoder:
    model = Decoder(config_of(**changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()


def random_ids(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, (rows, length), generator=torch.Generator().manual_seed(seed))


ACTIVATIONS = {
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    ),
    "relu2": lambda x: torch.where(x > 0, x * x, 0.0),
}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_feed_forward_is_its_formula(activation: str, gated: bool, biased: bool) -> None:
    block = FeedForward(config_of(activation=activation, gated=gated, ffn_bias=biased)).double()
    generator = torch.Generator().manual_seed(0)
    for weight in block.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator))
    x = torch.randn(2, 5, 24, generator=generator).double()
    state = block.state_dict()
    assert len(state) == (3 if gated else 2) * (2 if biased else 1)

    def project(name: str, inputs: torch.Tensor) -> torch.Tensor:
        return inputs @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)

    act = ACTIVATIONS[activation]
    inner = (
        act(project("gate_proj", x)) * project("up_proj", x)
        if gated
        else act(project("up_proj", x))
    )
    expected = project("down_proj", inner)
    assert (block(x) - expected).abs().max() <= 1e-10 * expected.abs().max()


@torch.no_grad()
def test_capped_logits_are_the_tanh_of_plain_ones() -> None:
    plain, capped = filled(), filled(logit_softcap=0.7)
    ids = random_ids(2, 12)
    logits = plain(ids)
    assert logits.abs().max() > 1
    assert (capped(ids) - 0.7 * (logits / 0.7).tanh()).abs().max() <= 1e-6
    assert capped(ids).abs().max() <= 0.7


@torch.no_grad()
def test_fused_projections_are_the_single_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, generator=generator)
    for biases in ([True, True], [False, False], [True, False]):
        parts = [Linear(8, size, bias) for size, bias in zip((5, 7), biases, strict=True)]
        for part in parts:
            for weight in part.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
        for part, fused in zip(parts, fused_linear(x, *parts), strict=True):
            assert (fused - part(x)).abs().max() <= 1e-5
            assert (fused - F.linear(x, part.weight, part.bias)).abs().max() <= 1e-5


@pytest.mark.parametrize("window", [1, 3, 7, 40])
def test_a_window_is_what_its_definition_says(window: int) -> None:
    segments = torch.tensor([[0] * 5 + [1] * 6, [2] * 11])
    mask = windowed(causal_mask(segments, segments), torch.arange(11), window)
    for b in range(2):
        for q in range(11):
            seen = [
                k
                for k in range(q + 1)
                if q - k < window and segments[b, q] == segments[b, k]
            ]  # fmt: skip
            assert mask[b, 0, q].nonzero().flatten().tolist() == seen


@torch.no_grad()
def test_what_left_every_window_has_no_influence() -> None:
    model = filled(window=4)  # 3 layers look back 3 x 3 tokens together
    ids = random_ids(1, 30)
    changed = ids.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 50
    differing = (model(ids) - model(changed)).abs().amax(-1)[0] > 0
    assert differing.nonzero().flatten().tolist() == list(range(5, 15))
    partly = filled(window=4, window_layers=(0, 2))
    assert ((partly(ids) - partly(changed)).abs().amax(-1)[0, 15:] > 0).all()


@torch.no_grad()
def test_a_family_without_a_peer_decodes_with_a_cache() -> None:
    model = filled(
        logit_softcap=5.0,
        gated=False,
        activation="relu2",
        window=5,
        window_layers=(0, 2),
        output_bias=True,
        ffn_bias=True,
    )
    ids = random_ids(2, 20)
    full, cache = model(ids), KVCache(2, 20, model.config)
    parts = [model(part, cache=cache) for part in ids.split([7, 1, 1, 8, 1, 2], 1)]
    assert (torch.cat(parts, 1) - full).abs().max() <= 1e-4


@torch.no_grad()
def test_embeddings_can_be_given() -> None:
    model = filled()
    ids = random_ids(2, 9)
    embedded = model.embed(ids)
    assert embedded.shape == (2, 9, 24)
    assert embedded.dtype == torch.float32
    assert torch.equal(model.hidden(ids, embedded=embedded), model.hidden(ids))
    louder = model.hidden(ids, embedded=embedded + 0.5)
    assert (louder - model.hidden(ids)).abs().max() > 0.01


def test_biases_start_at_zero_and_are_counted() -> None:
    config = config_of(
        attention_bias=True, output_bias=True, ffn_bias=True, gated=False, tied=False
    )
    model = Decoder(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(5.0)
    model.initialize(0)
    biases = [weight for name, weight in model.named_parameters() if name.endswith(".bias")]
    assert len(biases) == 6 * config.depth
    assert all((bias == 0).all() for bias in biases)
    assert sum(weight.numel() for weight in model.parameters()) == config.parameters


@torch.no_grad()
def test_positions_keep_their_precision_in_a_half_precision_model() -> None:
    model, half = filled(), filled().to(torch.bfloat16)
    cos, _ = half._rope(20, 20)
    assert torch.equal(cos, model.cos[:20])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_scaling": {"kind": "dynamic", "factor": 2.0}, "context": 8},
        {"rope_scaling": {"kind": "yarn", "factor": 2.0}, "context": 8},
        {
            "window": 4,
            "window_layers": (1,),
            "attention_bias": True,
            "logit_softcap": 9.0,
            "activation": "gelu_tanh",
        },
        {"gated": False, "activation": "relu2", "window": 3},
    ],
)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's
def test_the_family_is_one_graph(changes: dict[str, Any]) -> None:
    """No graph break, also where the table of positions grows inside."""
    torch.compiler.reset()
    model, plain = filled(**changes), filled(**changes)
    fast = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    ids, segments = random_ids(2, 20), torch.arange(20).div(9, rounding_mode="floor").expand(2, -1)
    logits, expected = fast(ids, segments), plain(ids, segments)
    assert (logits - expected).abs().max() <= 1e-5
    logits.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).abs().max() <= 1e-4 * (1 + other.grad.abs().max())
