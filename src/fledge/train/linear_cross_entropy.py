"""Hidden states and the output matrix in, the loss out: the logits exist for a chunk at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512
"""Tokens whose logits exist at once, at least."""

CHUNKS = 8
"""Pieces of a micro-batch at most, so that generated code stays short."""


def linear_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    z_loss: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """Sum of weights x (-log p(target) + z_loss x log(Z)^2), in nats.

    hidden (N,D) of the type of the products, head (V,D), targets (N) int64, weights (N) float32
    -> a scalar.  The gradient of a chunk is taken while its logits are there, in the forward pass
    (arXiv:2410.10989, 3.2), so N x V numbers are never held; of a frozen head none is taken.
    z_loss: arXiv:2204.02311, 5.
    """
    if not torch.is_grad_enabled():
        return _losses(hidden, head, targets, weights, z_loss, softcap)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, head, targets, weights, z_loss, softcap)
    return loss


def _chunk(tokens: int) -> int:
    return max(CHUNK, -(-tokens // CHUNKS))


def _losses(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    z_loss: float,
    softcap: float | None,
) -> Tensor:
    """The loss alone."""
    matrix, size = head.to(hidden.dtype), _chunk(hidden.shape[0])
    wide = torch.promote_types(hidden.dtype, torch.float32)
    total = torch.zeros((), dtype=wide, device=hidden.device)
    for begin in range(0, hidden.shape[0], size):
        part = slice(begin, begin + size)
        logits = _capped((hidden[part] @ matrix.t()).to(wide), softcap)
        normalizer = logits.logsumexp(-1)
        loss = normalizer - logits.gather(-1, targets[part, None]).squeeze(-1)
        total = total + ((loss + z_loss * normalizer.square()) * weights[part]).sum()
    return total


def _capped(logits: Tensor, softcap: float | None) -> Tensor:
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


class _LinearCrossEntropy(torch.autograd.Function):
    """Takes the gradients with the loss; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        z_loss: float,
        softcap: float | None,
    ) -> Tensor:
        matrix, size = head.to(hidden.dtype), _chunk(hidden.shape[0])
        wide = torch.promote_types(hidden.dtype, torch.float32)
        tokens = torch.arange(head.shape[0], device=hidden.device)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        learns = ctx.needs_input_grad[1]
        shape = head.shape if learns else (0,)
        head_gradient = torch.zeros(shape, dtype=wide, device=hidden.device)
        gradients = []
        for begin in range(0, hidden.shape[0], size):
            part = slice(begin, begin + size)
            target, weight = targets[part, None], weights[part, None]
            logits = _capped((hidden[part] @ matrix.t()).to(wide), softcap)  # (n,V)
            highest = logits.amax(-1, keepdim=True)
            powers = (logits - highest).exp()
            sums = powers.sum(-1, keepdim=True)
            normalizer = sums.log() + highest  # (n,1): log Z
            loss = normalizer - logits.gather(-1, target) + z_loss * normalizer.square()
            total = total + (loss * weight).sum()
            slope = powers * (weight * (1.0 + 2.0 * z_loss * normalizer) / sums)
            slope = slope - torch.where(tokens == target, weight, 0.0)  # d loss / d logits
            if softcap is not None:
                slope = slope * (1.0 - (logits / softcap).square())
            slope = slope.to(hidden.dtype)
            gradients.append(slope @ matrix)
            if learns:
                head_gradient = head_gradient + (slope.t() @ hidden[part]).to(wide)
        ctx.save_for_backward(torch.cat(gradients), head_gradient.to(head.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        scale = outputs[0]
        return (
            hidden_gradient * scale.to(hidden_gradient.dtype),
            head_gradient * scale if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
        )
