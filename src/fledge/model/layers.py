"""The parts of a layer: linear, RMSNorm, RoPE, attention, SwiGLU.

Letters: B batch, T time, S slots looked at, D width, H heads, K kv-heads, G = H/K, d head size.

Weights stay in the type they are stored in (float32 while training) and are cast where they
multiply, to the type of the activations: that is mixed precision without autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.cache import KVCache
from fledge.model.config import ModelConfig

PLAIN_ATTENTION_TOKENS = 512
"""Up to this length explicit attention beats the fused kernel on CPU, whose backward is slow."""

MASKED = -1e30
"""The score of a forbidden pair; finite, so that a row that may see nothing is no NaN."""


class Linear(nn.Module):
    """A matrix ``weight`` (outputs, inputs) without bias; computes in the type of its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        return F.linear(x, self.weight.to(x.dtype))


def fused_linear(x: Tensor, *parts: Linear) -> tuple[Tensor, ...]:
    """Several projections of one input as one product: (..., D) -> (..., outputs) for each."""
    weight = torch.cat([part.weight.to(x.dtype) for part in parts])
    return torch.split(F.linear(x, weight), [part.weight.shape[0] for part in parts], dim=-1)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 (arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) of any type -> (..., size) float32"""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight.float()


def rope_table(length: int, config: ModelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions below ``length``: two (length, d/2), float32."""
    exponents = torch.arange(0, config.head_size, 2, device=device).float() / config.head_size
    angles = torch.outer(torch.arange(length, device=device).float(), config.rope_theta**-exponents)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on half-split pairs.  x (B,T,heads,d), cos and sin (T,d/2) or (B,T,d/2)."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention.  q (B,H,T,d), k and v (B,K,S,d), mask bool (B or 1,1,T,S) -> (B,H,T,d).

    True in ``mask`` means: this query may see this key.
    """
    if q.device.type != "cpu" or q.shape[2] > PLAIN_ATTENTION_TOKENS:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    (B, H, T, d), (_, K, S, _) = q.shape, k.shape
    grouped = (q * d**-0.5).reshape(B, K, H // K * T, d)
    scores = (grouped @ k.transpose(-1, -2)).view(B, K, H // K, T, S).float()
    scores = torch.where(mask.unsqueeze(2), scores, MASKED)
    weights = scores.softmax(-1).to(v.dtype).view(B, K, H // K * T, S)
    return (weights @ v).view(B, H, T, d)


class Attention(nn.Module):
    """Causal self-attention; keys in groups (arXiv:2305.13245), queries and keys normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.q_proj = Linear(config.width, config.heads * config.head_size)
        self.k_proj = Linear(config.width, config.kv_heads * config.head_size)
        self.v_proj = Linear(config.width, config.kv_heads * config.head_size)
        self.o_proj = Linear(config.heads * config.head_size, config.width)
        self.q_norm = RMSNorm(config.head_size, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_size, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        """x (B,T,D), mask (B or 1,1,T,S) -> (B,T,D)"""
        q, k, v = (
            part.view(*part.shape[:-1], -1, self.head_size)
            for part in fused_linear(x, self.q_proj, self.k_proj, self.v_proj)
        )  # (B,T,H,d), (B,T,K,d), (B,T,K,d)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(part.float(), *rope).to(x.dtype).transpose(1, 2) for part in (q, k))
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        out: Tensor = self.o_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return out


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.width, config.ffn)
        self.up_proj = Linear(config.width, config.ffn)
        self.down_proj = Linear(config.ffn, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,D)"""
        gate, up = fused_linear(x, self.gate_proj, self.up_proj)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out
