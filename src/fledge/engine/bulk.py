"""Prompts in, many plain answers to each out, drawn for all of them at once: for training.

``Engine.generate`` runs a sampler of its own for every answer, since each may want another chain.
Where all want the same temperature and nothing else, a step's rows are drawn from together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import FledgeError
from fledge.engine.chain.candidates import Floats
from fledge.engine.engine import Engine
from fledge.engine.scheduler import Scheduler
from fledge.engine.step import Step

STEP_TOKENS = 2048
"""Tokens computed in a step: nobody waits for the first of them."""

SEQUENCES = 256
"""Answers drawn together."""


NUMBERS = 4_000_000
"""Numbers of a step's rows that are looked at together."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """``n`` answers to a prompt, of at most ``tokens`` tokens each."""

    prompt: Sequence[int]
    tokens: int
    seed: int
    n: int = 1


@dataclass(kw_only=True)
class Drawn:
    """An answer: its tokens, the one that ended it among them, and log p of each, in nats."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False


@dataclass(kw_only=True)
class _Writing:
    """An answer on its way; ``uniform`` are its random numbers, one a token."""

    wanted: Wanted
    drawn: Drawn
    uniform: NDArray[np.float64]

    @property
    def done(self) -> bool:
        return self.drawn.stopped or len(self.drawn.tokens) >= self.wanted.tokens


class Bulk:
    """Draws from one engine's runner.  What was computed is remembered from call to call."""

    def __init__(self, engine: Engine, temperature: float) -> None:
        runner = engine.runner
        self._engine, self._runner, self._temperature = engine, runner, temperature
        most = min(SEQUENCES, runner.blocks)
        self._scheduler = Scheduler(
            runner.blocks, runner.block_size, budget=STEP_TOKENS, max_sequences=most
        )

    def draw(self, requests: Sequence[Wanted]) -> list[list[Drawn]]:
        """The answers to each request, in order; each depends on its request alone.

        Raises InputError for a prompt that does not fit, FledgeError when the logits are broken.
        """
        groups = [[_begun(one, sample) for sample in range(one.n)] for one in requests]
        reading: dict[int, list[_Writing]] = {}  # by sequence: who draws from its first row
        writing: dict[int, _Writing] = {}
        for one, group in zip(requests, groups, strict=True):
            limit = len(one.prompt) + one.tokens
            reading[self._scheduler.submit(one.prompt, limit=limit)] = group
        while (step := self._scheduler.plan()) is not None:
            self._take(step, reading, writing)
        return [[one.drawn for one in group] for group in groups]

    def _take(
        self, step: Step, reading: dict[int, list[_Writing]], writing: dict[int, _Writing]
    ) -> None:
        """Compute a step and draw from all its rows."""
        for source, target in step.copies:
            self._runner.copy_block(source, target)
        logits = self._runner.step(step.pieces)
        numbers = [piece.sequence for piece in step.pieces if piece.rows]
        drawing = [
            (row, one)
            for row, number in enumerate(numbers)
            for one in (reading[number] if number in reading else [writing[number]])
        ]
        if drawing:
            self._choose(logits, drawing)
        following: dict[int, Sequence[int]] = {}
        forks: list[tuple[int, _Writing, bool]] = []
        for number in numbers:
            group = reading.pop(number, None) or [writing.pop(number)]
            first, *others = group
            following[number] = () if first.done else first.drawn.tokens[-1:]
            if not first.done:
                writing[number] = first
            forks += [(number, one, not first.done) for one in others if not one.done]
        self._scheduler.commit(following)
        for parent, one, alive in forks:
            writing[self._fork(parent, one, alive)] = one

    def _fork(self, parent: int, one: _Writing, alive: bool) -> int:
        """Another answer's sequence, which shares its parent's prompt."""
        prompt = one.wanted.prompt
        if alive:
            return self._scheduler.fork(parent, len(prompt), one.drawn.tokens)
        whole = [*prompt, *one.drawn.tokens]  # the prompt's blocks are remembered
        return self._scheduler.submit(whole, limit=len(prompt) + one.wanted.tokens)

    def _choose(self, logits: Floats, drawing: Sequence[tuple[int, _Writing]]) -> None:
        """Draw a token for each (row of logits, answer)."""
        size = max(1, NUMBERS // logits.shape[1])
        for first in range(0, len(logits), size):
            some = [
                (row - first, one.drawn, one) for row, one in drawing if 0 <= row - first < size
            ]
            rows = np.array([row for row, _, _ in some], np.int64)
            numbers = np.array([one.uniform[len(drawn.tokens)] for _, drawn, one in some])
            tokens, logprobs = self._draw(logits[first : first + size], rows, numbers)
            for (_, drawn, _), token, logp in zip(some, tokens, logprobs, strict=True):
                drawn.tokens.append(token)
                drawn.logprobs.append(logp)
                drawn.stopped = token in self._engine.stop_ids

    def _draw(
        self, logits: Floats, rows: NDArray[np.int64], numbers: NDArray[np.float64]
    ) -> tuple[list[int], list[float]]:
        """Tokens and their log p: for each row named, where its random number falls, from 0 to 1.

        Raises FledgeError for logits that are no numbers.
        """
        scaled = logits[:, : self._engine.vocabulary] / np.float32(self._temperature)
        scaled -= scaled.max(-1, keepdims=True)
        sums = np.exp(scaled).cumsum(-1, dtype=np.float64)
        totals = sums[:, -1]
        if not np.isfinite(totals).all():
            raise FledgeError(
                "the model's logits are no numbers", remedy="its weights are broken: lower the rate"
            )
        found = [
            sums[row].searchsorted(limit, "right")
            for row, limit in zip(rows.tolist(), (numbers * totals[rows]).tolist(), strict=True)
        ]
        tokens = np.minimum(np.array(found, np.int64), sums.shape[-1] - 1)
        logprobs = scaled[rows, tokens] - np.log(totals[rows])
        return tokens.tolist(), logprobs.tolist()


def _begun(wanted: Wanted, sample: int) -> _Writing:
    generator = np.random.Generator(np.random.PCG64([wanted.seed, sample]))
    return _Writing(
        wanted=wanted,
        drawn=Drawn(),
        uniform=generator.random(wanted.tokens),
    )
