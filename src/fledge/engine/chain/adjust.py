"""Steps that change single logits: penalties, bias, stop tokens held back, the grammar's mask."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from fledge.engine.chain.candidates import Candidates, Floats, Ids
from fledge.engine.chain.history import History


def _replaced(candidates: Candidates, positions: Ids, values: Floats) -> Candidates:
    logits = candidates.logits.copy()
    logits[positions] = values
    return Candidates(logits, candidates.ids)


def repetition(candidates: Candidates, history: History, penalty: float) -> Candidates:
    """Tokens of prompt and answer made less likely (arXiv:1909.05858, eq. 2)."""
    seen = history.seen
    logits = candidates.logits[seen]
    factor = np.float32(penalty)
    with np.errstate(over="ignore"):  # found by the check behind the chain
        return _replaced(candidates, seen, np.where(logits > 0, logits / factor, logits * factor))


def presence(candidates: Candidates, history: History, penalty: float) -> Candidates:
    """``penalty`` subtracted from each token that the answer has, as in the OpenAI API."""
    drawn = history.seen[history.counts > 0]
    return _replaced(candidates, drawn, candidates.logits[drawn] - np.float32(penalty))


def frequency(candidates: Candidates, history: History, penalty: float) -> Candidates:
    """``penalty`` times its count in the answer subtracted from each token."""
    seen = history.seen
    lowered = candidates.logits[seen] - np.float32(penalty) * history.counts
    return _replaced(candidates, seen, lowered)


def bias(candidates: Candidates, added: Mapping[int, float]) -> Candidates:
    """``added`` to the logits of single tokens; minus infinity forbids one."""
    ids = np.fromiter(added.keys(), np.int64, len(added))
    values = np.fromiter(added.values(), np.float32, len(added))
    return _replaced(candidates, ids, candidates.logits[ids] + values)


def allow(candidates: Candidates, allowed: NDArray[np.bool_]) -> Candidates:
    """Only the tokens that a grammar allows: allowed (V,)"""
    if candidates.ids is None:
        return candidates.keep(np.flatnonzero(allowed))
    return candidates.keep(np.flatnonzero(allowed[candidates.ids]))


def hold_back(candidates: Candidates, stop_ids: AbstractSet[int]) -> Candidates:
    """No stop token, unless nothing else is left: a grammar may only allow the end."""
    ids = np.fromiter(sorted(stop_ids), np.int64, len(stop_ids))
    logits = candidates.logits.copy()
    logits[candidates.positions(ids)] = -np.inf
    if not len(logits) or logits.max() == -np.inf:
        return candidates
    return Candidates(logits, candidates.ids)
