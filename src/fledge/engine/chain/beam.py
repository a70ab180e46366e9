"""Beam search and best-of as bookkeeping: log-probabilities in, who goes on with what out."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from fledge.core.errors import InputError
from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.select import descending


@dataclass(frozen=True, slots=True)
class Beam:
    """A partial or finished answer.  ``parent``: the beam, of the step before, it goes on from.

    ``tokens`` include the stop token of a finished one; ``logprob`` is their sum in nats.
    """

    tokens: tuple[int, ...] = ()
    logprob: float = 0.0
    parent: int = 0

    def score(self, length_penalty: float) -> float:
        """log p / tokens ** penalty: what beams are ranked by, as in transformers."""
        return self.logprob / math.pow(max(len(self.tokens), 1), length_penalty)


class BeamSearch:
    """The ``width`` best answers of at most ``limit`` tokens.

    Per step the runner gives log-probabilities for every beam of ``live``; the beams that live
    on name their parents, whose KV blocks they share.
    """

    def __init__(
        self, width: int, limit: int, stop_ids: AbstractSet[int], length_penalty: float = 1.0
    ) -> None:
        if width < 1 or limit < 1:
            raise InputError(
                f"beams = {width} and max_new_tokens = {limit} give no answer",
                remedy="use whole numbers from 1",
            )
        self.width = width
        self.live = [Beam()]
        self._finished: list[Beam] = []
        self._limit = limit
        self._stop_ids = frozenset(stop_ids)
        self._penalty = length_penalty

    def step(self, logprobs: Floats) -> list[Beam]:
        """Go one token on: logprobs (len(live), V), minus infinity for what is forbidden.

        Among the best 2 * width of all continuations, those ending in a stop token are finished
        and the first ``width`` others live on.
        """
        totals = logprobs.astype(np.float64) + np.array([[beam.logprob] for beam in self.live])
        vocabulary = logprobs.shape[1]
        need = self.width * (1 + len(self._stop_ids))  # so many that width others are among them
        kept: list[Beam] = []
        for rank, at in enumerate(descending(totals.ravel(), need)):
            parent, token = divmod(int(at), vocabulary)
            total = float(totals[parent, token])
            if total == -np.inf or len(kept) == self.width:
                break
            beam = Beam((*self.live[parent].tokens, token), total, parent)
            if token not in self._stop_ids:
                kept.append(beam)
            elif rank < 2 * self.width:
                self._finish(beam)
        if kept and len(kept[0].tokens) == self._limit:
            for beam in kept:
                self._finish(beam)
            kept = []
        self.live = kept
        return kept

    @property
    def done(self) -> bool:
        """Whether no live beam can still become one of the best ``width``.

        Log-probabilities only fall; what a beam can reach at best is its present sum, ranked by
        the length that flatters it most.
        """
        if not self.live or len(self._finished) < self.width:
            return not self.live
        worst = min(beam.score(self._penalty) for beam in self._finished)
        size = len(self.live[0].tokens)
        flattering = max(size + 1, self._limit) if self._penalty > 0 else size + 1
        return all(beam.logprob / flattering**self._penalty <= worst for beam in self.live)

    def best(self, count: int) -> list[Beam]:
        """The ``count`` best finished answers, best first; unfinished ones fill up."""
        ranked = sorted(self._finished, key=self._score, reverse=True)
        return [*ranked, *sorted(self.live, key=self._score, reverse=True)][:count]

    def _finish(self, beam: Beam) -> None:
        self._finished = heapq.nlargest(self.width, [*self._finished, beam], key=self._score)

    def _score(self, beam: Beam) -> float:
        return beam.score(self._penalty)


def best_of(logprobs: Sequence[Sequence[float]], count: int) -> list[int]:
    """Which of several answers are the ``count`` likeliest per token, best first.

    ``logprobs`` are the model's, in nats, of each answer's tokens; an answer without tokens
    comes last, and among equals the first drawn comes first.
    """
    means = [float(np.mean(one)) if len(one) else -np.inf for one in logprobs]
    return sorted(range(len(means)), key=lambda index: -means[index])[:count]
