"""Rotary positions: a config in, cosines and sines out; queries and keys in, turned ones out.

Pair i of a head of d dimensions turns by the angle position * theta^(-2i/d) (arXiv:2104.09864,
eq. 15).  The four ways to reach further change these frequencies, and YaRN the length of q and k.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.rope_layout import yarn_magnitude


def rope_table(
    length: int, config: ModelConfig, device: torch.device, reach: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions below ``length``: two (length, d/2), float32.

    ``reach`` is the length of the sequences they are for (None: the context), on which only
    dynamic NTK depends.
    """
    frequencies = inverse_frequencies(config, device, reach)
    angles = torch.outer(torch.arange(length, device=device).float(), frequencies)
    scale = attention_factor(config.rope_scaling)
    return angles.cos() * scale, angles.sin() * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on half-split pairs.  x (B,T,heads,d), cos and sin (T,d/2) or (B,T,d/2)."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    if torch.compiler.is_compiling():  # generated code merges all this by itself
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    out: Tensor = _Turn.apply(x, cos, sin)
    return out


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same in fewer passes over memory."""
    first, second = x.chunk(2, dim=-1)
    out = x * torch.cat((cos, cos), dim=-1)
    half = first.shape[-1]
    out[..., :half].addcmul_(second, sin, value=-1.0)
    out[..., half:].addcmul_(first, sin)
    return out


class _Turn(torch.autograd.Function):
    """Turns gradients back by the same angles; what is turned need not be kept for that."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(outputs[0], cos, -sin), None, None


def reach_of(config: ModelConfig, length: int) -> int:
    """The length whose frequencies a sequence of ``length`` tokens uses.

    Only dynamic NTK has others beyond the context.  Up to the context they are frozen, so in
    training, where no row is longer, a row's frequencies do not depend on what is packed into it.
    """
    scaling = config.rope_scaling
    return max(length, config.context) if scaling and scaling.kind == "dynamic" else config.context


def inverse_frequencies(
    config: ModelConfig, device: torch.device, reach: int | None = None
) -> Tensor:
    """Radians a position for each pair of a head: (d/2,) float32."""
    scaling = config.rope_scaling
    if scaling is None:
        return _plain(config, config.rope_theta, device)
    original = scaling.original_context or config.context
    if scaling.kind == "dynamic":
        stretch = scaling.factor * (reach or config.context) / original - (scaling.factor - 1)
        size = config.head_size
        return _plain(config, config.rope_theta * stretch ** (size / (size - 2)), device)
    plain = _plain(config, config.rope_theta, device)
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(plain, scaling, original)
    return _yarn(plain, scaling, original, config)


def attention_factor(scaling: RopeScaling | None) -> float:
    """What cosines and sines are multiplied by: 1 but for YaRN (arXiv:2309.00071, eq. 22)."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    return yarn_magnitude(scaling.factor)


def _plain(config: ModelConfig, theta: float, device: torch.device) -> Tensor:
    exponents = torch.arange(0, config.head_size, 2, device=device).float() / config.head_size
    return 1.0 / theta**exponents


def _llama3(plain: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Slow pairs are stretched, fast ones stay, those between are blended (Llama 3.1)."""
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    turns = original * plain / (2 * math.pi)  # within the original context
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / scaling.factor + kept * plain


def _yarn(plain: Tensor, scaling: RopeScaling, original: int, config: ModelConfig) -> Tensor:
    """As ``_llama3``, with a ramp over dimensions (arXiv:2309.00071, eq. 18 and 20-23)."""
    size = config.head_size

    def dimension(turns: float) -> float:
        """The dimension that turns so often within the original context."""
        wavelength = original / (turns * 2 * math.pi)
        return size * math.log(wavelength) / (2 * math.log(config.rope_theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    high = high + 0.001 if low == high else high  # a step instead of a ramp
    pairs = torch.arange(size // 2, device=plain.device, dtype=torch.float32)
    stretched = ((pairs - low) / (high - low)).clamp(0, 1)
    return stretched * plain / scaling.factor + (1 - stretched) * plain
