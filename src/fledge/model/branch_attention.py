"""Attention over segments that branch: a prompt is read once, each of its answers sees it.

A segment sees its own earlier tokens and, where it continues another, all of that one (as
arXiv:2403.08845 decodes, here with gradients).  Segments are laid side by side, so that no pair of
strangers is computed; rows of a head are copied there and back as ``branches.py`` says.

Letters: B batch, T time, H heads, K kv-heads, d head size; a part has b blocks of A queries and S
keys a kv-head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fledge.model.block_attention import EXPLICIT_TOKENS
from fledge.model.branches import Branches, Part

Dense = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Softmax attention: q (b,H,A,d), k and v (b,K,S,d), mask -> (b,H,A,d)."""


def attend_in_branches(q: Tensor, k: Tensor, v: Tensor, where: Branches, dense: Dense) -> Tensor:
    """Attention of every token to what it may see: q (B,H,T,d), k and v (B,K,T,d) -> (B,H,T,d).

    ``dense`` computes where explicit products do not pay.
    """
    B, H, T, d = q.shape
    q, k, v = (part.transpose(1, 2).reshape(-1, d) for part in (q, k, v))  # rows of a head
    if q.device.type == "cpu" and where.longest <= EXPLICIT_TOKENS:
        mixed: Tensor = _BranchAttention.apply(q, k, v, where)
    else:
        mixed = torch.cat([_densely(q, k, v, part, H, dense) for part in where.parts])
        mixed = mixed.index_select(0, where.query_slots.sources)
    return mixed.view(B, T, H, d).transpose(1, 2)


def _densely(q: Tensor, k: Tensor, v: Tensor, part: Part, heads: int, dense: Dense) -> Tensor:
    """The part's rows (b*H*A,d).

    What stands in empty slots gets no gradient: as a key it is masked, as a query nobody looks.
    """
    d = q.shape[-1]
    queries = q.index_select(0, part.queries.sources).view(-1, heads, part.length, d)
    keys, values = (
        x.index_select(0, part.keys.sources).view(len(queries), -1, part.seen, d) for x in (k, v)
    )
    mask = part.mask.repeat_interleave(len(queries) // len(part.mask), 0)
    return dense(queries, keys, values, mask).reshape(-1, d)


class _BranchAttention(torch.autograd.Function):
    """By explicit products: keeps the weights, and lays tokens out anew to go back."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, where: Branches) -> Tensor:
        wide, scale = torch.promote_types(q.dtype, torch.float32), q.shape[-1] ** -0.5
        mixed, kept = [], []
        for part in where.parts:
            queries, keys, values = _laid(q, k, v, part)
            scores = torch.bmm(queries, keys.transpose(1, 2)).to(wide).mul_(scale)
            shape = (len(part.mask), -1, part.length, part.seen)  # as the mask lies over it
            weights = scores.view(shape).add_(part.mask).softmax(-1).to(q.dtype)
            weights = weights.view(scores.shape)
            mixed.append(torch.bmm(weights, values).view(-1, q.shape[-1]))
            kept.append(weights)
        ctx.where = where
        ctx.save_for_backward(q, k, v, *kept)
        return where.query_slots.of(torch.cat(mixed))

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        where, scale = ctx.where, q.shape[-1] ** -0.5
        for_q, for_k, for_v = [], [], []
        for part, weights in zip(where.parts, kept, strict=True):
            queries, keys, values = _laid(q, k, v, part)
            slope = part.queries.of(outputs[0]).view(queries.shape)
            wide = weights.to(torch.promote_types(q.dtype, torch.float32))
            scores = torch.bmm(slope, values.transpose(1, 2)).to(wide.dtype)
            scores = torch._softmax_backward_data(scores, wide, -1, wide.dtype)
            scores = scores.mul_(scale).to(q.dtype)
            for_q.append(torch.bmm(scores, keys).view(-1, q.shape[-1]))
            for_k.append(torch.bmm(scores.transpose(1, 2), queries))
            for_v.append(torch.bmm(weights.transpose(1, 2), slope))
        to_q = where.query_slots.of(torch.cat(for_q))
        to_k, to_v = (where.key_slots.of(_summed(rows, where)) for rows in (for_k, for_v))
        return to_q, to_k, to_v, None


def _laid(q: Tensor, k: Tensor, v: Tensor, part: Part) -> tuple[Tensor, Tensor, Tensor]:
    """What a part's products read: (b*K,G*A,d), (b*K,S,d), (b*K,S,d)."""
    d = q.shape[-1]
    keys, values = (part.keys.of(x).view(-1, part.seen, d) for x in (k, v))
    return part.queries.of(q).view(len(keys), -1, d), keys, values


def _summed(gradients: list[Tensor], where: Branches) -> Tensor:
    """The gradients of the parts' keys as rows, what leaves ask of their root added to it."""
    if len(gradients) > 1:
        roots, leaves = gradients
        S, P = len(where.root_lengths), where.parts[0].seen
        R = where.parts[0].blocks
        K = len(roots) // R
        asked = leaves.view(S, -1, K, *leaves.shape[1:])[:, :, :, :P]
        roots.view(R, K, P, -1)[:S] += asked.sum(1)
    return torch.cat([part.flatten(0, 1) for part in gradients])
