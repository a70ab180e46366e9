"""What the chain left, as a distribution to draw from by a number in [0,1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.engine.chain.candidates import Candidates, Ids
from fledge.engine.chain.filters import weights

BLOCK = 256
"""Weights summed together before the cumulative sum, when there are many."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probabilities ``mass`` / ``total``: mass (n,) of the tokens ``ids`` (n,), ascending.

    ids None: all tokens, 0..n-1.  Every token that is not listed has probability 0.
    """

    mass: NDArray[np.floating[Any]]
    total: float
    ids: Ids | None = None

    @classmethod
    def of(cls, candidates: Candidates) -> Distribution:
        """softmax of the candidates' logits."""
        mass = weights(candidates.logits)
        return cls(mass, float(mass.sum(dtype=np.float64)), candidates.ids)

    def probability(self, token: int) -> float:
        """p(token)"""
        if self.ids is None:
            return float(self.mass[token]) / self.total if token < len(self.mass) else 0.0
        at = int(np.searchsorted(self.ids, token))
        found = at < len(self.ids) and self.ids[at] == token
        return float(self.mass[at]) / self.total if found else 0.0

    def draw(self, uniform: float) -> int:
        """The token at quantile ``uniform`` in [0,1), tokens in the order of their ids.

        Inverting the distribution, in float64, lets every request bring its own numbers.
        """
        start, target, mass = 0, uniform * self.total, self.mass
        if len(mass) > 2 * BLOCK:
            start, target = _block(mass, target)
            mass = mass[start : start + BLOCK]
        cumulative = np.cumsum(mass, dtype=np.float64)
        last = int(np.searchsorted(cumulative, cumulative[-1]))  # none behind it has any mass
        at = start + min(int(np.searchsorted(cumulative, target, side="right")), last)
        return int(at if self.ids is None else self.ids[at])

    def dense(self, vocabulary: int) -> NDArray[np.float64]:
        """Probabilities of all tokens: (V,)"""
        full = np.zeros(vocabulary)
        full[slice(len(self.mass)) if self.ids is None else self.ids] = self.probabilities()
        return full

    def probabilities(self) -> NDArray[np.float64]:
        """Of the listed tokens: (n,)"""
        return self.mass.astype(np.float64) / self.total


def _block(mass: NDArray[np.floating[Any]], target: float) -> tuple[int, float]:
    """Where the block begins in which the sum reaches ``target``, and what is left of it."""
    ends = np.add.reduceat(mass, np.arange(0, len(mass), BLOCK), dtype=np.float64).cumsum()
    block = int(np.searchsorted(ends, target, side="right"))
    block = min(block, int(np.searchsorted(ends, ends[-1])))
    return block * BLOCK, target - (float(ends[block - 1]) if block else 0.0)
