"""Norm and rotation bring their own backward pass: it is that of the parts they are made of."""

from __future__ import annotations

import pytest
import torch

from fledge.model.norm import RMSNorm
from fledge.model.rope import rotate


@pytest.mark.parametrize("strided", [False, True])
def test_norm(strided: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(2, 5, 3, 16, generator=generator)
    norm = RMSNorm(8, 1e-3)
    norm.weight.data.uniform_(0.5, 2.0, generator=generator)
    slope = torch.randn(2, 3, 5, 8, generator=generator).transpose(1, 2)

    def found(own: bool) -> list[torch.Tensor]:
        leaf = whole.clone().requires_grad_()
        x = leaf[..., ::2] if strided else leaf[..., :8].contiguous()
        norm.zero_grad()
        parts = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3) * norm.weight
        out = norm(x) if own else parts
        out.backward(slope)
        assert leaf.grad is not None
        assert norm.weight.grad is not None
        return [out.detach(), leaf.grad, norm.weight.grad.clone()]

    value, *gradients = found(True)
    expected, *wanted = found(False)
    assert torch.equal(value, expected)
    for gradient, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-5)


def test_a_frozen_norm_passes_gradients_on() -> None:
    norm = RMSNorm(8, 1e-6)
    norm.weight.requires_grad_(False)
    x = torch.arange(16.0).view(2, 8).requires_grad_()
    norm(x).sum().backward()
    assert norm.weight.grad is None
    assert x.grad is not None


def test_rotation() -> None:
    generator = torch.Generator().manual_seed(2)
    angles = torch.randn(5, 4, generator=generator)
    x = torch.randn(2, 5, 3, 8, generator=generator)
    slope = torch.randn(2, 5, 3, 8, generator=generator)
    turned = x.clone().requires_grad_()
    rotate(turned, angles.cos(), angles.sin()).backward(slope)
    # Turned back by the same angle, since a rotation's transpose is its inverse.
    expected = rotate(slope, angles.cos(), -angles.sin())
    assert turned.grad is not None
    torch.testing.assert_close(turned.grad, expected)
    torch.testing.assert_close(
        rotate(rotate(x, angles.cos(), angles.sin()), angles.cos(), -angles.sin()), x
    )
