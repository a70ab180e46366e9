"""Attention by FlexAttention, for generated code on GPUs: blocks that nobody sees are skipped.

A mask over documents costs the fused kernels of PyTorch a score for every pair; here the pairs of
different documents, of the future and beyond the window are not computed (arXiv:2412.05496).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


def block_mask(tokens: int, segments: Tensor | None, window: int | None, like: Tensor) -> BlockMask:
    """What ``causal_mask`` and ``windowed`` say, as blocks: segments (B,T) int or None.

    ``like`` is a tensor on the device of the queries.
    """

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= key
        if segments is not None:
            seen = seen & (segments[batch, query] == segments[batch, key])
        if window is not None:
            seen = seen & (query - key < window)
        return seen

    rows = None if segments is None else segments.shape[0]
    return create_block_mask(sees, rows, None, tokens, tokens, device=str(like.device))


def attend_sparsely(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """Softmax attention: q (B,H,T,d), k and v (B,K,T,d) -> (B,H,T,d)."""
    out = flex_attention(q, k, v, block_mask=mask, enable_gqa=k.shape[1] != q.shape[1])
    assert isinstance(out, torch.Tensor)
    return out
