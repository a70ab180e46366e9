"""Hidden states in, log-probability of each drawn token and entropy out: logits a chunk at a time.

Of what tokens are drawn from, at a temperature; ``log_probs`` is for what preferences compare.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch

CHUNK = 1024
"""Tokens whose logits exist at once."""


def target_logprobs(
    model: Decoder, hidden: Tensor, targets: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """log p(target) and the entropy of p, in nats: hidden (N,D), targets (N) -> two (N) float32.

    p is what tokens are drawn from: the softmax of the logits / ``temperature``.  With gradients
    a chunk's logits are computed again when it is its turn, so N x V numbers are never held.
    """
    parts = []
    for first in range(0, len(hidden), CHUNK):
        some, wanted = hidden[first : first + CHUNK], targets[first : first + CHUNK]
        if torch.is_grad_enabled() and len(hidden) > CHUNK:
            part = checkpoint(_chunk, model, some, wanted, temperature, use_reentrant=False)
        else:
            part = _chunk(model, some, wanted, temperature)
        parts.append(part)
    logp, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
    return logp, entropy


def _chunk(
    model: Decoder, hidden: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = model.logits(hidden) / temperature  # (n,V)
    scores = logits.log_softmax(-1)
    entropy = -(scores.exp() * scores).sum(-1)
    return scores.gather(-1, targets[:, None]).squeeze(-1), entropy


@torch.no_grad()
def score_batch(model: Decoder, batch: Batch, temperature: float) -> Tensor:
    """log p of every target that counts, 0 elsewhere: (B,T) float32, on the CPU.

    A row is computed at a time, without its padding.
    """
    found = torch.zeros(batch.targets.shape)
    for row, piece in enumerate(batch.micro(1)):
        if not piece.weights.any():
            continue
        there = piece.trimmed().to(model.device)
        counts = there.weights > 0
        hidden = model.hidden(there.ids, there.segments, continues=there.continues)[counts]  # (N,D)
        logp, _ = target_logprobs(model, hidden, there.targets[counts], temperature)
        found[row][piece.weights[0] > 0] = logp.cpu()
    return found
