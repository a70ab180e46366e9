"""The encoder: token ids in, a vector for every token out; each token sees all others.

Post-norm: the LayerNorm stands after each sum (arXiv:1810.04805; arXiv:1706.03762, section 3.1).
Letters: B batch, T time, D width, H heads, V vocabulary, d head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.attention import attend
from fledge.model.encoder_config import EncoderConfig, TextSettings
from fledge.model.ffn import ACTIVATIONS
from fledge.model.linear import Linear, fused_linear


def activation_of(config: EncoderConfig) -> Callable[[Tensor], Tensor]:
    """The function ``config`` names."""
    return F.relu if config.activation == "relu" else ACTIVATIONS[config.activation]


class LayerNorm(nn.Module):
    """(x - mean) / deviation * weight + bias, in float32 (arXiv:1607.06450)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) of any type -> (..., size) float32"""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), weight.shape, weight, bias, self.eps)


class EncoderAttention(nn.Module):
    """Self-attention in both directions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = Linear(config.width, config.width, bias=True)
        self.k_proj = Linear(config.width, config.width, bias=True)
        self.v_proj = Linear(config.width, config.width, bias=True)
        self.o_proj = Linear(config.width, config.width, bias=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B,T,D), mask bool (B,1,T,T) -> (B,T,D)"""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in fused_linear(x, self.q_proj, self.k_proj, self.v_proj)
        )  # (B,H,T,d) each
        out: Tensor = self.o_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return out


class EncoderFeedForward(nn.Module):
    """down(activation(up(x)))"""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.width, config.ffn, bias=True)
        self.down_proj = Linear(config.ffn, config.width, bias=True)
        self.activation = activation_of(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,D)"""
        out: Tensor = self.down_proj(self.activation(self.up_proj(x)))
        return out


class EncoderLayer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x)); x is float32 between products."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self_attn = EncoderAttention(config)
        self.attention_norm = LayerNorm(config.width, config.norm_eps)
        self.mlp = EncoderFeedForward(config)
        self.mlp_norm = LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, dtype: torch.dtype, mask: Tensor) -> Tensor:
        """x (B,T,D) float32 -> (B,T,D) float32; products are computed in ``dtype``."""
        x = self.attention_norm(x + self.dropout(self.self_attn(x.to(dtype), mask)))
        out: Tensor = self.mlp_norm(x + self.dropout(self.mlp(x.to(dtype))))
        return out


class Encoder(nn.Module):
    """Token, position and segment embeddings, then layers of attention in both directions.

    ``compute_dtype`` is the type of the products; weights keep theirs.  ``text_settings`` says how
    to make vectors of texts, when that is known (see ``TextEncoder``).
    """

    def __init__(self, config: EncoderConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.text_settings: TextSettings | None = None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.embed_positions = nn.Embedding(config.context, config.width)
        self.embed_types = nn.Embedding(config.types, config.width)
        self.embed_norm = LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.depth))
        self.pooler = Linear(config.width, config.width, bias=True) if config.pooler else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed_tokens.weight.device

    def initialize(self, seed: int) -> Encoder:
        """Fill matrices from ``seed``, normal with deviation 0.02 (BERT); biases are zero."""
        initialize(self, seed)
        return self

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """A vector for every token: (B,T) each -> (B,T,D) float32.

        ``mask`` is true or 1 at tokens, 0 at padding (None: no padding); what stands at padding
        is meaningless but finite.  ``types`` numbers the segment of each token (None: all 0).
        Raises ValueError when T exceeds the context.
        """
        T = ids.shape[1]
        if self.config.context < T:
            raise ValueError(f"{T} tokens exceed the context of {self.config.context}")
        kinds = torch.zeros_like(ids) if types is None else types
        x = F.embedding(ids, self.embed_tokens.weight).float()
        x = x + F.embedding(kinds, self.embed_types.weight).float()
        x = x + self.embed_positions.weight[:T].float()
        x = self.dropout(self.embed_norm(x))
        seen = torch.ones_like(ids) if mask is None else mask
        visible = seen.bool()[:, None, None, :].expand(-1, 1, T, -1)  # (B,1,T,T)
        for layer in self.layers:
            x = layer(x, self.compute_dtype, visible)
        return x

    def pooled(self, hidden: Tensor) -> Tensor:
        """tanh(dense(first token)): (B,T,D) -> (B,D) float32.  Only with ``config.pooler``."""
        if self.pooler is None:
            raise ValueError("this encoder has no pooler")
        return torch.tanh(self.pooler(hidden[:, 0].to(self.compute_dtype)).float())


@torch.no_grad()
def initialize(model: nn.Module, seed: int) -> None:
    """Matrices normal with deviation 0.02, biases zero, norms one."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
        else:
            weight.fill_(1.0 if name.endswith("norm.weight") else 0.0)
