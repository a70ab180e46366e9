"""Log-probabilities, in nats, of a drawn token and of the likeliest ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.distribution import Distribution
from fledge.engine.chain.filters import weights
from fledge.engine.chain.select import descending


@dataclass(frozen=True, slots=True)
class Logprobs:
    """log p of the drawn token, and (token, log p) of the likeliest, likeliest first."""

    token: float
    top: tuple[tuple[int, float], ...]


def before_chain(logits: Floats, token: int, top: int) -> Logprobs:
    """As the model has it: log softmax of logits (V,)."""
    largest = float(logits.max())
    norm = largest + math.log(float(weights(logits).sum(dtype=np.float64)))
    first = descending(logits, top) if top else ()
    pairs = tuple((int(i), float(logits[i]) - norm) for i in first)
    return Logprobs(float(logits[token]) - norm, pairs)


def after_chain(distribution: Distribution, token: int, top: int) -> Logprobs:
    """As it was drawn; tokens that the chain removed are not among the likeliest."""
    first = descending(distribution.mass, top) if top else ()
    pairs = []
    for at in first:
        mass = float(distribution.mass[at])
        if mass > 0:
            one = int(at if distribution.ids is None else distribution.ids[at])
            pairs.append((one, math.log(mass / distribution.total)))
    probability = distribution.probability(token)
    return Logprobs(math.log(probability) if probability else -math.inf, tuple(pairs))
