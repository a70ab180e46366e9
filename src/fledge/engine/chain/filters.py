"""Steps that shape and narrow: temperature, top-k, top-p, min-p, typical, top-n-sigma.

Each takes candidates and gives those it keeps, at least one; none keeps a set that depends on
the order of the others in a batch.
"""

from __future__ import annotations

import math

import numpy as np

from fledge.engine.chain.candidates import Candidates, Floats
from fledge.engine.chain.select import largest, reaching


def weights(logits: Floats) -> Floats:
    """Probabilities up to a common factor, the likeliest having 1: (n,) -> (n,)"""
    mass: Floats = logits - logits.max()
    np.exp(mass, out=mass)
    return mass


def likeliest(candidates: Candidates) -> Candidates:
    """Greedy: the token with the largest logit, the first among equals."""
    return candidates.keep(np.array([candidates.logits.argmax()]))


def temperature(candidates: Candidates, value: float) -> Candidates:
    """Logits divided by ``value``: below 1 sharper, above 1 flatter.

    With the largest at 0, which changes no probability, a low temperature cannot overflow.
    """
    logits = candidates.logits - candidates.logits.max()
    if value != 1:
        with np.errstate(over="ignore"):  # to minus infinity: probability 0
            logits /= np.float32(value)
    return Candidates(logits, candidates.ids)


def top_k(candidates: Candidates, k: int) -> Candidates:
    """The ``k`` largest logits, and what ties with the last of them."""
    if k >= len(candidates.logits):
        return candidates
    return candidates.keep(largest(candidates.logits, k))


def top_p(candidates: Candidates, p: float) -> Candidates:
    """The smallest set of tokens whose probabilities reach ``p`` (arXiv:1904.09751)."""
    mass = weights(candidates.logits)
    return candidates.keep(reaching(candidates.logits, mass, p * float(mass.sum())))


def min_p(candidates: Candidates, p: float) -> Candidates:
    """Tokens at least ``p`` times as likely as the likeliest (arXiv:2407.01082)."""
    bar = candidates.logits.max() + np.float32(math.log(p))
    return candidates.keep(np.flatnonzero(candidates.logits >= bar))


def typical(candidates: Candidates, p: float) -> Candidates:
    """The smallest set that reaches ``p``, by | -log p - entropy | (arXiv:2202.00666, eq. 6)."""
    possible = np.flatnonzero(candidates.logits > -np.inf)
    if len(possible) < len(candidates.logits):
        candidates = candidates.keep(possible)
    mass = weights(candidates.logits)
    total = float(mass.sum())
    surprise = (candidates.logits.max() + np.float32(math.log(total))) - candidates.logits
    entropy = np.float32(np.dot(mass, surprise) / total)
    return candidates.keep(reaching(-np.abs(surprise - entropy), mass, p * total))


def top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    """Logits within ``n`` standard deviations of the largest (arXiv:2411.07641, algorithm 1).

    The deviation is that of the tokens that can be drawn; temperature changes nothing about
    the choice.
    """
    logits = candidates.logits
    lowest = logits.min()
    finite = logits if lowest > -np.inf else logits[logits > -np.inf]
    bar = logits.max() - np.float32(n) * finite.std()
    return candidates.keep(np.flatnonzero(logits >= bar))
