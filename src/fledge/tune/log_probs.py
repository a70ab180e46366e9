"""A model and a batch in, log p of its targets out; only those that count cost logits.

Where nothing is learnt (prompts, padding) no logits are computed; elsewhere they exist for a chunk
at a time, and once more in the backward pass (arXiv:2410.10989, 3.2): unlike the loss of a token,
what a preference loss makes of a log-probability is known only when it has seen all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch

CHUNK_BYTES = 1 << 25
"""Bytes of logits that exist at once, about."""


def target_log_probs(model: Decoder, batch: Batch) -> Tensor:
    """log p(target) in nats where ``batch.weights`` is not 0, else 0.  (B,T) -> (B,T) float32"""
    hidden = model.hidden(batch.ids, batch.segments)  # (B,T,D)
    return log_probs_of(model, hidden, batch.targets, batch.weights)


def log_probs_of(model: Decoder, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The same from hidden states.  hidden (B,T,D), targets and weights (B,T) -> (B,T) float32"""
    head = model.head.to(hidden.dtype)
    cap = model.config.logit_softcap or 0.0
    values: Tensor = _log_probs(
        hidden.flatten(0, 1), head, targets.flatten(), weights.flatten() != 0, cap
    )[0]
    return values.view(targets.shape)


# Operators of their own: which places count is data, and generated code has no place for that.


@torch.library.custom_op("fledge::target_log_probs", mutates_args=())
def _log_probs(
    hidden: Tensor, head: Tensor, targets: Tensor, counted: Tensor, softcap: float
) -> tuple[Tensor, Tensor]:
    """hidden (N,D), head (V,D), targets and counted (N) -> log p and log Z, (N,) float32 each"""
    places = counted.nonzero().squeeze(-1)
    values = torch.zeros(hidden.shape[0], device=hidden.device)
    normalizers = torch.zeros_like(values)
    for part in places.split(_chunk(head)):
        logits = _capped(hidden[part] @ head.t(), softcap)  # (n,V)
        normalizer = logits.logsumexp(-1)
        normalizers[part] = normalizer
        values[part] = logits.gather(-1, targets[part, None]).squeeze(-1) - normalizer
    return values, normalizers


@_log_probs.register_fake
def _(
    hidden: Tensor, head: Tensor, targets: Tensor, counted: Tensor, softcap: float
) -> tuple[Tensor, Tensor]:
    shape = (hidden.shape[0],)
    return (
        hidden.new_empty(shape, dtype=torch.float32),
        hidden.new_empty(shape, dtype=torch.float32),
    )


@torch.library.custom_op("fledge::target_log_probs_backward", mutates_args=())
def _slopes(
    gradient: Tensor,
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    counted: Tensor,
    normalizers: Tensor,
    softcap: float,
    wants_head: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of hidden (N,D) and head (V,D, empty unless wanted), from that of log p (N,)"""
    places = counted.nonzero().squeeze(-1)
    hidden_gradient = torch.zeros_like(hidden)
    size = head.shape if wants_head else (0,)
    head_gradient = torch.zeros(size, dtype=torch.float32, device=head.device)
    for part in places.split(_chunk(head)):
        mine = hidden[part]
        logits = _capped(mine @ head.t(), softcap)  # (n,V)
        slope = (logits - normalizers[part, None]).exp_()  # p
        slope.mul_(-gradient[part, None])  # d log p / d logits = (one at the target) - p
        slope.scatter_add_(-1, targets[part, None], gradient[part, None])
        if softcap:
            slope *= 1.0 - (logits / softcap).square()
        slope = slope.to(hidden.dtype)
        hidden_gradient[part] = slope @ head
        if wants_head:
            head_gradient += (slope.t() @ mine).float()
    return hidden_gradient, head_gradient


@_slopes.register_fake
def _(
    gradient: Tensor,
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    counted: Tensor,
    normalizers: Tensor,
    softcap: float,
    wants_head: bool,
) -> tuple[Tensor, Tensor]:
    size = head.shape if wants_head else (0,)
    return torch.empty_like(hidden), head.new_empty(size, dtype=torch.float32)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    hidden, head, targets, counted, softcap = inputs
    ctx.save_for_backward(hidden, head, targets, counted, output[1])
    ctx.softcap = softcap
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    hidden, head, targets, counted, normalizers = ctx.saved_tensors
    wants_head = ctx.needs_input_grad[1]
    to_hidden, to_head = _slopes(
        gradient.contiguous(), hidden, head, targets, counted, normalizers, ctx.softcap, wants_head
    )
    return to_hidden, to_head.to(head.dtype) if wants_head else None, None, None, None


_log_probs.register_autograd(_backward, setup_context=_remember)


def _chunk(head: Tensor) -> int:
    """Tokens whose logits exist at once."""
    return max(64, CHUNK_BYTES // (4 * head.shape[0]))


def _capped(logits: Tensor, softcap: float) -> Tensor:
    logits = logits.float()
    return softcap * torch.tanh(logits / softcap) if softcap else logits
