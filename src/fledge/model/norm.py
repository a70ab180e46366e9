"""RMSNorm: activations of any type in, normalised ones in float32 out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 (arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) of any type -> (..., size) float32"""
        if torch.compiler.is_compiling():  # generated code merges what follows by itself
            return _normalised(x.float(), self.eps)[0] * self.weight.float()
        out: Tensor = _Norm.apply(x.float(), self.weight.float(), self.eps)
        return out


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / rms(x), (..., size), and 1 / rms(x), (..., 1)."""
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x * scale, scale


class _Norm(torch.autograd.Function):
    """With its own backward pass, which goes over memory half as often as that of its parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normal, scale = _normalised(x, eps)
        ctx.save_for_backward(normal, scale, weight)
        return normal * weight

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """d x = scale (w g - n mean(w g n)), where n is x normalised; d weight = sum(g n)."""
        normal, scale, weight = ctx.saved_tensors
        size = weight.shape[0]
        product = outputs[0] * normal
        to_weight = None
        if ctx.needs_input_grad[1]:
            rows = product.reshape(-1, size)
            to_weight = rows.new_ones(len(rows)) @ rows  # faster than a sum over rows
        mean = (product @ weight).unsqueeze(-1).div_(-size)
        to_x = torch.mul(normal, mean, out=product).addcmul_(outputs[0], weight)
        return to_x.mul_(scale), to_weight, None
