"""Vectors of texts that belong together in, losses that bring them together out.

B pairs, K negatives of each, D dimensions.  All vectors have unit length unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PairLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(queries (B,D), positives (B,D), negatives (B,K,D)) -> the loss of each pair, (B,)."""


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float,
    same: Tensor | None = None,
    absent: Tensor | None = None,
) -> Tensor:
    """InfoNCE in both directions (arXiv:1807.03748, eq. 4), the mean of the two.  -> (B,) nats

    A query is told from all positives of the batch and its own ``negatives`` (B,K,D), a positive
    from all queries.  ``same`` (B,B) is true where query i and positive j are no wrong pair: the
    same text stands in both; the diagonal does not matter.  ``absent`` (B,K): no negative there.
    """
    scores = queries @ positives.T / temperature  # (B,B)
    if same is not None:
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(same & ~own, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    back = F.cross_entropy(scores.T, target, reduction="none")
    if negatives is not None:
        hard = torch.einsum("bd,bkd->bk", queries, negatives) / temperature
        if absent is not None:
            hard = hard.masked_fill(absent, -torch.inf)
        scores = torch.cat([scores, hard], dim=1)  # (B,B+K)
    return (F.cross_entropy(scores, target, reduction="none") + back) / 2


def matryoshka(
    loss: PairLoss,
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None,
    dimensions: Sequence[int],
) -> Tensor:
    """The mean of ``loss`` over the first so many dimensions of each vector (arXiv:2205.13147)."""
    losses = []
    for size in dimensions:
        parts = [
            None if part is None else F.normalize(part[..., :size], dim=-1)
            for part in (queries, positives, negatives)
        ]
        losses.append(loss(*parts))  # type: ignore[arg-type]
    return torch.stack(losses).mean(0)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, 0 where the teacher's vector is zero: nothing is taught.  (N,D) each -> (N,)

    For vectors of unit length it is half the squared error of arXiv:2004.09813, eq. 1.
    """
    told = teacher.square().sum(-1) > 0
    return torch.where(told, 1 - F.cosine_similarity(student, teacher, dim=-1), 0.0)
