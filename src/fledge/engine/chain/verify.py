"""Speculative decoding: drafted tokens in, how many stand and the token behind them out; exact.

What comes out is distributed as if every token had been drawn from its target alone, whatever
the draft was.  Targets and random numbers are asked for one at a time, each after the drafted
tokens before it were accepted, so that a sampler's history and a grammar need no rollback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fledge.engine.chain.distribution import Distribution

Target = Callable[[int], Distribution]
"""Gives the distribution of the token behind the first i drafted ones, which were accepted."""

Uniform = Callable[[], float]
"""Gives a new number in [0,1)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first ``accepted`` drafted tokens stand, and ``token`` follows them."""

    accepted: int
    token: int


def verify_guess(draft: Sequence[int], target: Target, uniform: Uniform) -> Verdict:
    """Verify tokens that were guessed without drawing (prompt lookup, a greedy draft model).

    The token is drawn as ever, and the guess stands when it is the same.  In law this is
    algorithm 1 of arXiv:2211.17192 with a draft that puts all mass on its guess: accepted with
    p(guess), else drawn from the rest of p.  It spends one number per token, as decoding without
    a draft does, so that the same seed gives the same text with and without speculation.
    """
    for place, guess in enumerate(draft):
        token = target(place).draw(uniform())
        if token != guess:
            return Verdict(place, token)
    return Verdict(len(draft), target(len(draft)).draw(uniform()))


def verify_draws(
    draft: Sequence[int], proposals: Sequence[Distribution], target: Target, uniform: Uniform
) -> Verdict:
    """Verify tokens that were drawn from ``proposals`` (arXiv:2211.17192, algorithm 1).

    A token x drawn from q stands with probability min(1, p(x)/q(x)); the first that does not
    is replaced by one drawn from max(0, p - q), normalised.
    """
    for place, (token, proposal) in enumerate(zip(draft, proposals, strict=True)):
        wanted = target(place)
        if uniform() * proposal.probability(token) >= wanted.probability(token):
            return Verdict(place, residual(wanted, proposal).draw(uniform()))
    return Verdict(len(draft), target(len(draft)).draw(uniform()))


def residual(target: Distribution, proposal: Distribution) -> Distribution:
    """max(0, p - q), normalised: what a rejected token is replaced from.

    When rounding leaves nothing, p and q are equal as far as float64 can tell, and p serves.
    """
    ids = np.arange(len(target.mass)) if target.ids is None else target.ids
    width = max(_width(target), _width(proposal))
    excess = np.maximum(target.probabilities() - proposal.dense(width)[ids], 0)
    total = float(excess.sum())
    return Distribution(excess, total, ids) if total > 0 else target


def _width(distribution: Distribution) -> int:
    """One more than the largest id listed."""
    return len(distribution.mass) if distribution.ids is None else int(distribution.ids[-1]) + 1
