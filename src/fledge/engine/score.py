"""Documents in, the negative log-likelihood of every token out: batched sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fledge.model.decoder import Decoder

BATCH_TOKENS = 8192
"""Tokens read in one pass, padding included."""

LOGIT_ROWS = 1024
"""Positions whose logits are held at a time: bounds memory for large vocabularies."""


@dataclass(frozen=True)
class _Window:
    """Inputs [start, stop) of a document; the tokens after inputs [first, stop) are scored."""

    document: int
    start: int
    first: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@torch.inference_mode()
def score_windows(
    model: Decoder,
    documents: Sequence[Sequence[int]],
    *,
    context: int,
    stride: int,
    advance: Callable[[int], None] = lambda tokens: None,
) -> list[NDArray[np.float32]]:
    """-ln p of every token but the first of each document: arrays of len(document) - 1 nats.

    A window reads up to ``context`` tokens and moves on by ``stride`` <= ``context``; each token
    is scored once, by the first window that reaches it, so with at least ``context - stride``
    tokens before it (fewer only near the start).  Documents never see each other.  ``advance``
    is told the number of tokens scored after each pass.
    """
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} must lie in 1..context ({context})")
    nats = [np.zeros(max(len(ids) - 1, 0), dtype=np.float32) for ids in documents]
    windows = [w for i, ids in enumerate(documents) for w in _windows(i, len(ids), context, stride)]
    windows.sort(key=lambda window: window.length)
    for batch in _batches(windows):
        scored = _score(model, documents, batch)
        for window, row in zip(batch, scored, strict=True):
            nats[window.document][window.first : window.stop] = row
        advance(sum(len(row) for row in scored))
    return nats


def _windows(document: int, length: int, context: int, stride: int) -> list[_Window]:
    """Windows over the ``length - 1`` inputs of a document, in order."""
    found: list[_Window] = []
    inputs, first = length - 1, 0
    while first < inputs:
        stop = min(first + (stride if first else context), inputs)
        found.append(_Window(document, max(stop - context, 0), first, stop))
        first = stop
    return found


def _batches(windows: Sequence[_Window]) -> list[list[_Window]]:
    """Windows of like length together, at most ``BATCH_TOKENS`` tokens each (or one window)."""
    batches: list[list[_Window]] = []
    for window in windows:
        if batches and (len(batches[-1]) + 1) * window.length <= BATCH_TOKENS:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches


def _score(
    model: Decoder, documents: Sequence[Sequence[int]], batch: Sequence[_Window]
) -> list[NDArray[np.float32]]:
    """The nats of each window's scored tokens.  Right padding is never seen: causal."""
    longest = batch[-1].length
    ids = torch.zeros(len(batch), longest, dtype=torch.int64)
    rows, columns, targets = [], [], []
    for row, window in enumerate(batch):
        document = documents[window.document]
        piece = np.asarray(document[window.start : window.stop + 1], dtype=np.int64)
        ids[row, : window.length] = torch.from_numpy(piece[:-1])
        scored = window.stop - window.first
        rows.append(torch.full((scored,), row))
        columns.append(torch.arange(window.first, window.stop) - window.start)
        targets.append(torch.from_numpy(piece[-scored:]))
    hidden = model.hidden(ids.to(model.device))  # (B,T,D)
    picked = hidden[torch.cat(rows).to(model.device), torch.cat(columns).to(model.device)]  # (N,D)
    nats = _nats(model, picked, torch.cat(targets).to(model.device))
    return np.split(nats.cpu().numpy(), np.cumsum([len(part) for part in rows])[:-1])


def _nats(model: Decoder, hidden: Tensor, targets: Tensor) -> Tensor:
    """-ln p of targets (N,) after hidden (N,D) -> (N,) float32"""
    parts = [
        F.cross_entropy(
            model.logits(hidden[i : i + LOGIT_ROWS]), targets[i : i + LOGIT_ROWS], reduction="none"
        )
        for i in range(0, len(hidden), LOGIT_ROWS)
    ]
    return torch.cat(parts)
