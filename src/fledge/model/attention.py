"""Attention: queries, keys, values and a mask in, mixtures of values out; and the layer's block.

Letters: B batch, T time, S slots looked at, D width, H heads, K kv-heads, G = H/K, d head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from fledge.model.block_attention import EXPLICIT_TOKENS, attend_in_blocks, attend_plainly
from fledge.model.branch_attention import attend_in_branches
from fledge.model.branches import Branches
from fledge.model.cache import Cache
from fledge.model.config import ModelConfig
from fledge.model.linear import Linear, fused_linear
from fledge.model.norm import RMSNorm
from fledge.model.rope import rotate
from fledge.model.sparse_attention import attend_sparsely

Mask = Tensor | BlockMask | Branches
"""What queries may see, in one of the forms that ``attend`` reads."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """Softmax attention.  q (B,H,T,d), k and v (B,K,S,d), mask (B or 1,1,T,S) -> (B,H,T,d).

    True in ``mask`` means: this query may see this key; a float mask is added to the scores.
    ``causal`` promises that the mask hides every key after its query (T = S), ``window`` that it
    hides those ``window`` or more before: what is hidden from a whole block of queries is then
    not even computed.
    """
    if isinstance(mask, BlockMask):
        return attend_sparsely(q, k, v, mask)
    if isinstance(mask, Branches):
        return attend_in_branches(q, k, v, mask, attend)
    if q.device.type != "cpu":  # kernels that take a mask take no groups
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    if q.device.type != "cpu" or q.shape[2] > EXPLICIT_TOKENS:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return attend_in_blocks(q, k, v, mask, window) if causal else attend_plainly(q, k, v, mask)


def causal_mask(ids: Tensor, segments: Tensor | None) -> Tensor:
    """What each query may see: earlier keys (of its segment).  (B,T) -> bool (B or 1,1,T,T)"""
    T = ids.shape[1]
    places = torch.arange(T, device=ids.device)
    causal = places[:, None] >= places
    if segments is None:
        return causal[None, None]
    return (causal & (segments[:, :, None] == segments[:, None, :])).unsqueeze(1)


def windowed(mask: Tensor, places: Tensor, window: int | None) -> Tensor:
    """``mask`` without what lies ``window`` or more before a query (arXiv:2310.06825).

    mask (B or 1,1,T,S), places (T) or (B,T): the slot of each query -> like ``mask``
    """
    S = mask.shape[-1]
    if window is None or window >= S:
        return mask
    near = torch.arange(S, device=mask.device) > places[..., None] - window  # (T,S) or (B,T,S)
    return mask & near.unsqueeze(-3)


class Attention(nn.Module):
    """Causal self-attention; keys in groups (arXiv:2305.13245), queries and keys normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.config = config
        inner, outer = config.heads * config.head_size, config.kv_heads * config.head_size
        self.q_proj = Linear(config.width, inner, config.attention_bias)
        self.k_proj = Linear(config.width, outer, config.attention_bias)
        self.v_proj = Linear(config.width, outer, config.attention_bias)
        self.o_proj = Linear(inner, config.width, config.output_bias)
        self.q_norm = RMSNorm(config.head_size, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_size, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Mask,
        cache: Cache | None,
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
        window = self.config.window_of(layer)
        mixed = attend(q, k, v, mask, causal=cache is None, window=window)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out
