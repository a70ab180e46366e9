"""Attention by plain products, for CPUs: exact, in blocks of queries, with its own backward pass.

PyTorch's fused kernel for CPUs is slow, above all backwards: explicit products reach several times
its rate.  What a whole block of queries cannot see is left out.

Letters: B batch, T queries, S keys, H heads, K kv-heads, G = H/K, d head size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

EXPLICIT_TOKENS = 2048
"""Up to this length explicit products beat the fused kernel on CPU, whose backward is slow."""

MASKED = -1e30
"""The score of a forbidden pair; finite, so that a row that may see nothing is no NaN."""


@torch.library.custom_op("fledge::score_bias", mutates_args=())
def score_bias(mask: Tensor) -> Tensor:
    """What is added to the scores: 0 where ``mask`` is true, else MASKED.  bool -> float32

    An operator of its own, so that generated code computes it once a batch instead of anew for
    every score of every layer.
    """
    return torch.where(mask, 0.0, MASKED)


@score_bias.register_fake
def _(mask: Tensor) -> Tensor:
    return torch.empty_like(mask, dtype=torch.float32)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention: q (B,H,T,d), k and v (B,K,S,d), mask (B or 1,1,T,S) -> (B,H,T,d)."""
    return (_weights(q * q.shape[-1] ** -0.5, k, mask) @ v).view(q.shape)


def attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int | None = None
) -> Tensor:
    """Causal attention of T queries to T keys, as ``attend_plainly`` would give it.

    The mask hides all keys after a query and, with ``window``, those ``window`` or more before.
    """
    if mask.dtype == torch.bool:
        mask = score_bias(mask)
    out: Tensor = _BlockAttention.apply(q, k, v, mask, window)
    return out


def _weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Attention weights of scaled queries; heads that share keys are stacked: (B,K,G*T,S)."""
    (B, H, T, d), (_, K, S, _) = q.shape, k.shape
    scores = (q.reshape(B, K, H // K * T, d) @ k.transpose(-1, -2)).view(B, K, H // K, T, S)
    scores, mask = scores.to(_wide(q)), mask.unsqueeze(2)
    scores = torch.where(mask, scores, MASKED) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).to(q.dtype).view(B, K, H // K * T, S)


def _wide(x: Tensor) -> torch.dtype:
    """The type sums are taken in: float32, or the type of ``x`` where that is wider."""
    return torch.promote_types(x.dtype, torch.float32)


def _blocks(tokens: int, window: int | None) -> list[tuple[slice, slice]]:
    """(queries, the keys they see) of each block: halves of a short row, else 256 queries."""
    size = -(-tokens // 2) if 128 < tokens <= 512 else 256
    starts = range(0, tokens, size)
    firsts = [max(0, start - window + 1) if window else 0 for start in starts]
    stops = [min(start + size, tokens) for start in starts]
    return [
        (slice(start, stop), slice(first, stop))
        for start, first, stop in zip(starts, firsts, stops, strict=True)
    ]


class _BlockAttention(torch.autograd.Function):
    """Keeps the weights of each block; backward adds up what the blocks want of a key."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int | None
    ) -> Tensor:
        q = q * q.shape[-1] ** -0.5
        outs, kept = [], []
        for rows, seen in _blocks(q.shape[2], window):
            weights = _weights(q[:, :, rows], k[:, :, seen], mask[:, :, rows, seen])
            outs.append((weights @ v[:, :, seen]).view(q[:, :, rows].shape))
            kept.append(weights)
        ctx.window = window
        ctx.save_for_backward(q, k, v, *kept)
        return torch.cat(outs, 2) if len(outs) > 1 else outs[0]

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        (B, H, T, d), K = q.shape, k.shape[1]
        blocks = _blocks(T, ctx.window)
        for_q, for_k, for_v = [], [], []
        for (rows, seen), weights in zip(blocks, kept, strict=True):
            slope = outputs[0][:, :, rows].reshape(B, K, -1, d)
            stacked = q[:, :, rows].reshape(B, K, -1, d)
            wide = weights.to(_wide(q))
            scores = (slope @ v[:, :, seen].transpose(-1, -2)).to(_wide(q))
            scores = wide * (scores - (wide * scores).sum(-1, keepdim=True))
            scores = scores.to(q.dtype)
            for_q.append((scores @ k[:, :, seen]).view(B, H, -1, d))
            for_k.append(scores.transpose(-1, -2) @ stacked)
            for_v.append(weights.transpose(-1, -2) @ slope)
        return torch.cat(for_q, 2) * d**-0.5, _sum(for_k, blocks), _sum(for_v, blocks), None, None


def _sum(parts: list[Tensor], blocks: list[tuple[slice, slice]]) -> Tensor:
    """The blocks' gradients of the keys they saw, added up: (B,K,T,d).

    A stretch of keys at a time, so that no part is padded to the whole length.
    """
    edges = sorted({edge for rows, seen in blocks for edge in (seen.start, seen.stop)})
    stretches = []
    for start, stop in pairwise(edges):
        total = None
        for part, (_, seen) in zip(parts, blocks, strict=True):
            if seen.start <= start and stop <= seen.stop:
                piece = part[:, :, start - seen.start : stop - seen.start]
                piece = piece.to(_wide(piece))
                total = piece if total is None else total + piece
        assert total is not None, "a block sees its own queries' keys"
        stretches.append(total.to(parts[0].dtype))
    return torch.cat(stretches, 2) if len(stretches) > 1 else stretches[0]
