"""Checks of who sees whom: documents apart, no future, and a cache that changes nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.model.cache import KVCache
from fledge.train.verify.check import (
    LOGIT_TOLERANCE,
    Check,
    Subject,
    distance,
    documents,
    rows_of,
    skipped,
)

CACHE_TOLERANCE = 1e-4
"""Products of other shapes add up in another order."""


def document_leak(subject: Subject) -> Check:
    """Another first document in the row leaves the logits of the second as they were."""
    half = min(12, subject.model.config.context // 2)
    if half < 2:
        return skipped("document-leak", "the context is too short for two documents")
    first, second = documents(subject, (half, half))
    batch, changed = (rows_of([[ids, second]], 2 * half) for ids in (first, _other(subject, first)))
    before, after = (_logits(subject, b.ids, b.segments)[:, half:] for b in (batch, changed))
    off = distance(before, after)
    return Check(
        "document-leak",
        off <= LOGIT_TOLERANCE,
        f"{half} logits of document 2 with two different documents 1 before it: "
        f"relative difference {off:.1e}",
    )


def causality(subject: Subject) -> Check:
    """Another token at t changes logits from t on, and none before."""
    length = min(24, subject.model.config.context)
    if length < 2:
        return skipped("causality", "the context is one token")
    place = length // 2
    [ids] = documents(subject, (length,))
    changed = ids.copy()
    changed[place] = (ids[place] + 1) % subject.model.config.vocab_size
    before, after = (_logits(subject, torch.from_numpy(row)[None], None) for row in (ids, changed))
    past = distance(before[:, :place], after[:, :place])
    future = distance(before[:, place:], after[:, place:])
    return Check(
        "causality",
        past <= LOGIT_TOLERANCE and future > 0,
        f"token {place} of {length} changed: logits before it differ by {past:.1e} (relative), "
        f"from it on by {future:.1e} (they must)",
    )


def cached_decoding(subject: Subject) -> Check:
    """Reading token by token into a KV cache gives the logits of reading all at once."""
    length = min(20, subject.model.config.context)
    texts = documents(subject, (length, length))
    prompts = (length // 2, max(1, length // 3))  # rows of different length, left-padded
    cache = KVCache(2, length, subject.model.config)
    widest = max(prompts)
    ids = torch.zeros(2, widest, dtype=torch.int64)
    positions = torch.full((2, widest), -1)
    for row, prompt in enumerate(prompts):
        ids[row, widest - prompt :] = torch.from_numpy(texts[row][:prompt])
        positions[row, widest - prompt :] = torch.arange(prompt)
    worst = 0.0
    full = [_logits(subject, torch.from_numpy(text)[None], None)[0] for text in texts]
    with torch.no_grad():
        logits = subject.model(ids, cache=cache, positions=positions)[:, -1]
        for step in range(length - widest + 1):
            for row, prompt in enumerate(prompts):
                worst = max(worst, distance(logits[row], full[row][prompt + step - 1]))
            if step < length - widest:
                fresh = [[int(texts[row][prompt + step])] for row, prompt in enumerate(prompts)]
                logits = subject.model(torch.tensor(fresh), cache=cache)[:, -1]
    return Check(
        "cached-decoding",
        worst <= CACHE_TOLERANCE,
        f"prompts of {prompts[0]} and {prompts[1]} tokens, then {length - widest} tokens one by "
        f"one, against the whole at once: relative difference of logits {worst:.1e}",
    )


def _logits(subject: Subject, ids: Tensor, segments: Tensor | None) -> Tensor:
    with torch.no_grad():
        logits: Tensor = subject.model(ids, segments)
    return logits


def _other(subject: Subject, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every token another one."""
    return np.mod(ids + 1, subject.model.config.vocab_size)
