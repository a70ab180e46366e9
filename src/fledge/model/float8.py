"""Products in 8-bit floats, for GPUs that have them: activations and a matrix in, products out.

Numbers are scaled, a tensor at a time, so that the largest fills the range (arXiv:2209.05433):
e4m3 (4 bits of exponent, 3 of mantissa) for values, e5m2 for gradients, whose range is wider.
Weights keep their own type; all three products of a layer are computed in 8 bits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

VALUES, GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""Every side of a product must be a multiple of this, as the hardware asks."""


def float8_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` in 8-bit floats: x (..., inputs), weight (outputs, inputs) -> (..., outputs).

    Result and gradient of x are of x's type, the weight's of its own.  A product with a side
    that the hardware cannot multiply is computed in x's type.
    """
    rows = x.numel() // x.shape[-1]
    if any(side % MULTIPLE for side in (rows, *weight.shape)):
        return F.linear(x, weight.to(x.dtype), bias)
    out: Tensor = _Float8Product.apply(x.reshape(rows, -1), weight)
    out = out.view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def scaled(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x / scale in ``dtype``, scale): the largest magnitude becomes the largest number."""
    top = torch.finfo(dtype).max
    scale = x.detach().abs().amax().float().clamp(min=1e-12) / top
    return (x.float() / scale).clamp(-top, top).to(dtype), scale


class _Float8Product(torch.autograd.Function):
    """x (N,D), weight (O,D) -> (N,O); keeps both in 8 bits for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x8, x_scale = scaled(x, VALUES)
        w8, w_scale = scaled(weight, VALUES)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.weight_dtype = weight.dtype
        return _product(x8, w8.t(), x_scale, w_scale, x.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor]:
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        slope = outputs[0]
        g8, g_scale = scaled(slope, GRADIENTS)
        for_x = _product(g8, _by_columns(w8), g_scale, w_scale, slope.dtype)
        for_weight = _product(g8.t().contiguous(), _by_columns(x8), g_scale, x_scale, slope.dtype)
        return for_x, for_weight.to(ctx.weight_dtype)


def _product(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, dtype: torch.dtype, fast: bool = False
) -> Tensor:
    """a (M,K) by rows, b (K,N) by columns, both in 8 bits -> (M,N) in ``dtype``.

    ``fast``: sums with fewer bits, exact enough forwards but not for gradients.
    """
    return torch._scaled_mm(
        a, b, scale_a=a_scale, scale_b=b_scale, out_dtype=dtype, use_fast_accum=fast
    )


def _by_columns(matrix: Tensor) -> Tensor:
    """The same matrix, laid out column after column."""
    return matrix.t().contiguous().t()
