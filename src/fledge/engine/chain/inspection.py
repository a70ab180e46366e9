"""What the chain saw and did for one token: the record that ``inspect`` asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fledge.engine.chain.candidates import Candidates, Floats
from fledge.engine.chain.distribution import Distribution
from fledge.engine.chain.filters import weights
from fledge.engine.chain.select import descending

LIKELIEST = 10
"""Tokens named of the logits, and of what a step removed."""


@dataclass(frozen=True, slots=True)
class Share:
    """A token with its logit and probability where it is named."""

    token: int
    logit: float
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One step of the chain."""

    name: str
    """As in ``Settings``, or "grammar" or "greedy"."""

    kept: int
    """Tokens that can be drawn after it."""

    changed: int
    """Tokens it kept and gave another logit."""

    removed: int
    """Tokens that could be drawn before it and no more."""

    mass: float
    """Probability, before the step, of all it removed."""

    likeliest: tuple[Share, ...]
    """The likeliest of those it removed, with logits and probabilities before the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """One drawn token."""

    top: tuple[Share, ...]
    """The model's likeliest tokens, before the chain."""

    steps: tuple[StepRecord, ...]
    """In the order they ran."""

    allowed: int | None
    """Tokens that the grammar allowed; None without one."""

    token: int
    rank: int
    """Of the drawn token among the model's logits; 1 is the likeliest."""

    model_probability: float
    """Of the drawn token before the chain."""

    probability: float
    """Of the drawn token after it."""


def record_step(name: str, before: Candidates, after: Candidates) -> StepRecord:
    """What a step did to its candidates."""
    logits = np.full_like(before.logits, -np.inf)  # those after it, in the order before it
    where = slice(None) if after.ids is None else before.positions(after.ids)
    logits[where] = after.logits
    could, can = before.logits > -np.inf, logits > -np.inf
    removed = np.flatnonzero(could & ~can)
    odds = probabilities(before.logits)
    first = removed[descending(odds[removed], LIKELIEST)]
    return StepRecord(
        name=name,
        kept=int(can.sum()),
        changed=int((can & (logits != before.logits)).sum()),
        removed=len(removed),
        mass=float(odds[removed].sum(dtype=np.float64)),
        likeliest=tuple(
            Share(before.token(int(at)), float(before.logits[at]), float(odds[at])) for at in first
        ),
    )


def inspect_token(
    logits: Floats,
    token: int,
    distribution: Distribution,
    steps: list[StepRecord],
    allowed: int | None,
) -> Inspection:
    """The record of a drawn token: logits (V,) are the model's."""
    odds = probabilities(logits)
    return Inspection(
        top=tuple(
            Share(int(at), float(logits[at]), float(odds[at]))
            for at in descending(logits, LIKELIEST)
        ),
        steps=tuple(steps),
        allowed=allowed,
        token=token,
        rank=int((logits > logits[token]).sum()) + 1,
        model_probability=float(odds[token]),
        probability=distribution.probability(token),
    )


def probabilities(logits: Floats) -> Floats:
    """softmax: (n,) -> (n,)"""
    mass = weights(logits)
    mass /= mass.sum()
    return mass
