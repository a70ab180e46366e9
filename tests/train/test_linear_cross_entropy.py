"""The chunked loss against the plain one: values, gradients, memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.linear_cross_entropy import CHUNK, linear_cross_entropy
from fledge.train.objective import MEASURED, token_losses


def plain(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    z_loss: float,
    softcap: float | None,
) -> Tensor:
    logits = hidden @ head.t()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    losses = F.cross_entropy(logits, targets, reduction="none")
    return ((losses + z_loss * logits.logsumexp(-1).square()) * weights).sum()


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 3 * CHUNK + 5),
    vocabulary=st.integers(2, 40),
    z_loss=st.sampled_from([0.0, 1e-2]),
    softcap=st.sampled_from([None, 3.0]),
    seed=st.integers(0, 1000),
)
def test_loss_and_gradients_are_those_of_the_plain_formula(
    tokens: int, vocabulary: int, z_loss: float, softcap: float | None, seed: int
) -> None:
    torch.manual_seed(seed)
    hidden = torch.randn(tokens, 8, dtype=torch.float64).float().requires_grad_()
    head = torch.randn(vocabulary, 8).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,))
    weights = torch.rand(tokens) * (torch.rand(tokens) > 0.3)
    found = linear_cross_entropy(hidden, head, targets, weights, z_loss=z_loss, softcap=softcap)
    (found * 0.5).backward()
    mine = hidden.grad, head.grad
    hidden.grad = head.grad = None
    wanted = plain(hidden, head, targets, weights, z_loss, softcap)
    (wanted * 0.5).backward()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(mine[0], hidden.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine[1], head.grad, rtol=1e-4, atol=1e-4)


def test_without_gradients_the_loss_is_the_same() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(700, 8), torch.randn(30, 8)
    targets, weights = torch.randint(0, 30, (700,)), torch.rand(700)
    with torch.no_grad():
        found = linear_cross_entropy(hidden, head, targets, weights)
    torch.testing.assert_close(found, plain(hidden, head, targets, weights, 0.0, None))


def test_huge_logits_do_not_overflow() -> None:
    hidden = torch.full((4, 8), 1e4, requires_grad=True)
    head = torch.randn(5, 8)
    loss = linear_cross_entropy(hidden, head, torch.zeros(4, dtype=torch.long), torch.ones(4))
    loss.backward()
    assert torch.isfinite(loss)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_the_full_logits_never_exist() -> None:
    """No tensor of tokens x vocabulary numbers is made on the way, forward or backward."""
    from torch.utils._python_dispatch import TorchDispatchMode

    tokens, vocabulary = 4 * CHUNK, 3000
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = function(*arguments, **(keywords or {}))
            for one in out if isinstance(out, tuple) else (out,):
                if isinstance(one, Tensor):
                    largest = max(largest, one.numel())
            return out

    hidden = torch.randn(tokens, 8, requires_grad=True)
    head = torch.randn(vocabulary, 8, requires_grad=True)
    targets, weights = torch.randint(0, vocabulary, (tokens,)), torch.ones(tokens)
    with Watch():
        linear_cross_entropy(hidden, head, targets, weights).backward()
    assert largest == CHUNK * vocabulary
    assert head.grad is not None


def test_losses_are_measured_without_the_full_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ModelConfig(
        vocab_size=50, width=32, depth=1, heads=1, kv_heads=1, ffn=48, context=300, logit_softcap=5
    )
    model = Decoder(shape).initialize(0)
    ids = torch.randint(50, (5, 301), generator=torch.Generator().manual_seed(0))
    segments, weights = torch.zeros(5, 300, dtype=torch.long), torch.ones(5, 300)
    batch = Batch(ids[:, :-1], ids[:, 1:], segments, weights)
    sizes: list[int] = []
    whole = Decoder.logits

    def logits(self: Decoder, hidden: Tensor) -> Tensor:
        sizes.append(hidden.shape[0])
        return whole(self, hidden)

    with torch.no_grad():
        expected = F.cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten())
        monkeypatch.setattr(Decoder, "logits", logits)
        losses = token_losses(model, batch)
    assert losses.shape == (5, 300)
    torch.testing.assert_close(losses.mean(), expected)
    assert sizes == [MEASURED, 1500 - MEASURED]


def test_of_a_frozen_head_no_gradient_is_taken_or_kept() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(7, 8).requires_grad_(), torch.randn(1000, 8).requires_grad_()
    targets, weights = torch.randint(0, 1000, (7,)), torch.rand(7)
    linear_cross_entropy(hidden, head, targets, weights).backward()  # type: ignore[no-untyped-call]
    wanted, hidden.grad = hidden.grad, None
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = linear_cross_entropy(hidden, head.detach(), targets, weights)
    loss.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert torch.equal(hidden.grad, wanted)
    assert max(kept) == hidden.numel()
