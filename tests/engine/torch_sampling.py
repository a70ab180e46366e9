"""Samplers in PyTorch, written apart from the engine's: what its chain is compared with.

Logits in, the next token out.  Pure functions on logits (V,) or (B,V).

A filter sets the logits it refuses to minus infinity.  Where a parameter may differ between the
rows of a batch it is a tensor (B,1); a plain number holds for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling

COLDEST = 1e-5
"""Below this temperature the likeliest token is taken: float32 holds no finer differences."""


def check_sampling(sampling: Sampling) -> Sampling:
    """``sampling`` itself; raises InputError naming the first value that is out of range."""
    for name, fine, allowed in (
        ("max_new_tokens", sampling.max_new_tokens >= 1, "a whole number from 1"),
        ("temperature", 0 <= sampling.temperature < math.inf, "0 (greedy) or more"),
        ("top_k", sampling.top_k >= 0, "0 (off) or more"),
        ("top_p", 0 < sampling.top_p <= 1, "above 0, up to 1 (off)"),
        ("min_p", 0 <= sampling.min_p <= 1, "from 0 (off) to 1"),
        ("repetition_penalty", 0 < sampling.repetition_penalty < math.inf, "above 0; 1 is off"),
        ("stop", all(sampling.stop), "texts that are not empty"),
    ):
        if not fine:
            value = getattr(sampling, name)
            raise InputError(f"{name} = {value!r} is out of range", remedy=f"use {allowed}")
    return sampling


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token: (...,V) -> (...) int64"""
    return logits.argmax(-1)


def temperature(logits: Tensor, value: float | Tensor) -> Tensor:
    """Logits divided by a temperature above 0: below 1 sharper, above 1 flatter."""
    return logits / value


def top_k(logits: Tensor, k: int | Tensor) -> Tensor:
    """Keep the ``k`` largest logits (and what ties with the last of them); 0 keeps all."""
    if isinstance(k, int):
        k = min(k, logits.shape[-1])  # an int may be larger than a tensor holds
    count = torch.as_tensor(k, device=logits.device).expand(*logits.shape[:-1], 1)
    ordered = logits.sort(-1, descending=True).values
    last = ordered.gather(-1, (count - 1).clamp(0, logits.shape[-1] - 1))
    return logits.masked_fill((logits < last) & (count > 0), -math.inf)


def top_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """Keep the smallest set of tokens whose probabilities reach ``p`` (arXiv:1904.09751)."""
    ordered, order = logits.sort(-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # mass of the likelier tokens
    limit = torch.as_tensor(p, dtype=logits.dtype, device=logits.device)
    refused = (before >= limit) & (limit < 1)
    refused[..., 0] = False
    return logits.masked_fill(refused.gather(-1, order.argsort(-1)), -math.inf)


def min_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """Keep tokens at least ``p`` times as likely as the likeliest (arXiv:2407.01082)."""
    ratio = (logits - logits.amax(-1, keepdim=True)).exp()
    return logits.masked_fill(ratio < p, -math.inf)


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float | Tensor) -> Tensor:
    """Make tokens of ``seen`` (...,V) bool less likely (arXiv:1909.05858, eq. 2); 1 is off."""
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def draw(logits: Tensor, uniform: float | Tensor) -> Tensor:
    """The token at quantile ``uniform`` in [0,1) of softmax(logits): (...,V) -> (...) int64

    Inverting the distribution, rather than a library's sampler, lets each request of a batch
    bring its own random numbers.
    """
    cumulative = logits.double().softmax(-1).cumsum(-1)
    quantile = torch.as_tensor(uniform, dtype=torch.float64, device=logits.device)
    target = quantile.expand(*logits.shape[:-1], 1) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def next_tokens(
    logits: Tensor, samplings: Sequence[Sampling], seen: Tensor | None, uniforms: Sequence[float]
) -> list[int]:
    """One token per row: logits (B,V), one ``Sampling`` and one number in [0,1) per row.

    ``seen`` (B,V) bool marks each row's tokens so far; None when no row has a penalty.
    Order: repetition penalty, temperature, top-k, top-p, min-p, as in transformers.
    """

    def column(name: str) -> Tensor:
        values = [float(getattr(sampling, name)) for sampling in samplings]
        return torch.tensor(values, device=logits.device)[:, None]  # (B,1)

    if seen is not None:
        logits = penalize_repetition(logits, seen, column("repetition_penalty"))
    best = greedy(logits)
    heat = column("temperature")
    warm = heat >= COLDEST
    if not warm.any():
        return best.tolist()
    # With the largest at 0, which changes no probability, a low temperature cannot overflow.
    logits = temperature(logits - logits.amax(-1, keepdim=True), heat.where(warm, 1))
    if any(sampling.top_k for sampling in samplings):
        counts = [min(sampling.top_k, logits.shape[-1]) for sampling in samplings]
        logits = top_k(logits, torch.tensor(counts, device=logits.device)[:, None])
    if any(sampling.top_p < 1 for sampling in samplings):
        logits = top_p(logits, column("top_p"))
    if any(sampling.min_p for sampling in samplings):
        logits = min_p(logits, column("min_p"))
    drawn = draw(logits, torch.tensor(uniforms, dtype=torch.float64)[:, None])
    return torch.where(warm.squeeze(-1), drawn, best).tolist()
