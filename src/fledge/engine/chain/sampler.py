"""One request's sampler: a row of logits in, the next token out; one row knows of no other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import FledgeError, InputError
from fledge.engine.chain import adjust, filters
from fledge.engine.chain.candidates import Candidates, Floats
from fledge.engine.chain.distribution import Distribution
from fledge.engine.chain.history import History
from fledge.engine.chain.inspection import Inspection, StepRecord, inspect_token, record_step
from fledge.engine.chain.logprobs import Logprobs, after_chain, before_chain
from fledge.engine.chain.settings import Settings

Mask = NDArray[np.bool_]


class Step(NamedTuple):
    """A step of the chain and its name."""

    name: str
    apply: Callable[[Candidates], Candidates]


@dataclass(frozen=True, slots=True)
class Choice:
    """A drawn token, and what the settings ask to know about it."""

    token: int
    before: Logprobs | None = None
    after: Logprobs | None = None
    inspection: Inspection | None = None


class Sampler:
    """Draws the tokens of one request over ``vocabulary`` tokens, with its own random numbers.

    Order: repetition, presence and frequency penalty, bias, grammar, stop tokens held back,
    temperature, top-n-sigma, top-k, top-p, min-p, typical.  ``stop_ids`` are the model's end
    tokens; those of the settings are added.
    """

    def __init__(
        self,
        settings: Settings,
        vocabulary: int,
        prompt: Sequence[int] = (),
        stop_ids: Iterable[int] = (),
    ) -> None:
        self.settings = settings
        self.stop_ids = frozenset({*stop_ids, *settings.stop_ids})
        for name, ids in (("logit_bias", settings.logit_bias), ("stop_ids", settings.stop_ids)):
            _check_ids(name, ids, vocabulary)
        self._random = random.Random(settings.seed)
        self._history = History(prompt)
        self._adjusting = _adjusting(settings, self._history)
        self._narrowing = _narrowing(settings)
        self._bare = settings.greedy and not (
            self._adjusting or settings.min_tokens or settings.logprobs or settings.inspect
        )

    def uniform(self) -> float:
        """The request's next random number in [0,1); greedy requests need none."""
        return 0.0 if self.settings.greedy else self._random.random()

    def push(self, token: int) -> None:
        """``token`` joins the answer, be it drawn, accepted from a draft or forced."""
        self._history.push(token)

    def distribution(
        self,
        logits: Floats,
        allowed: Mask | None = None,
        records: list[StepRecord] | None = None,
    ) -> Distribution:
        """What the next token is drawn from: logits (V,), the grammar's mask (V,).

        For speculation, which decides by it; ``records`` takes what each step did.  Errors as
        in ``choose``.
        """
        find_best(logits)
        return Distribution.of(self._run(logits, allowed, records))

    def choose(self, logits: Floats, allowed: Mask | None = None) -> Choice:
        """Draw the next token; it joins the answer only with ``push``.

        Raises FledgeError when the logits are broken or nothing is left to draw.
        """
        best = find_best(logits)
        if self._bare and (allowed is None or allowed[best]):
            return Choice(best)
        settings = self.settings
        records: list[StepRecord] | None = [] if settings.inspect else None
        distribution = Distribution.of(self._run(logits, allowed, records))
        token = distribution.draw(self.uniform())
        return self.describe(logits, token, distribution, records, allowed)

    def describe(
        self,
        logits: Floats,
        token: int,
        distribution: Distribution,
        records: list[StepRecord] | None = None,
        allowed: Mask | None = None,
    ) -> Choice:
        """``token`` with the log-probabilities and the record that the settings ask for."""
        settings, before, after, seen = self.settings, None, None, None
        if settings.logprobs:
            before = before_chain(logits, token, settings.top_logprobs)
            after = after_chain(distribution, token, settings.top_logprobs)
        if settings.inspect:
            size = None if allowed is None else int(allowed.sum())
            seen = inspect_token(logits, token, distribution, records or [], size)
        return Choice(token, before, after, seen)

    def _steps(self, allowed: Mask | None) -> list[Step]:
        steps = list(self._adjusting)
        if allowed is not None:
            steps.append(Step("grammar", partial(adjust.allow, allowed=allowed)))
        if self._history.drawn < self.settings.min_tokens:
            steps.append(Step("min_tokens", partial(adjust.hold_back, stop_ids=self.stop_ids)))
        return steps

    def _run(
        self, logits: Floats, allowed: Mask | None, records: list[StepRecord] | None
    ) -> Candidates:
        """The candidates behind the last step; ``records`` takes what each did."""
        candidates = Candidates(logits)
        for step in self._steps(allowed):
            candidates = _apply(step, candidates, records)
        if not len(candidates.logits) or not np.isfinite(candidates.logits.max()):
            raise FledgeError(
                "no token is left to draw" if allowed is None else "the grammar allows no token",
                remedy="loosen the grammar, logit_bias or penalties",
            )
        for step in self._narrowing:
            candidates = _apply(step, candidates, records)
        return candidates


def find_best(logits: Floats) -> int:
    """The position of the largest logit (V,); raises FledgeError when the model broke.

    One look is enough: a NaN or plus infinity wins every comparison, and minus infinity, which
    a model may use for tokens that do not exist, only wins when there is nothing else.
    """
    best = int(logits.argmax())
    value = logits[best]
    if not np.isfinite(value):
        raise FledgeError(
            f"the model's logits hold {value} at token {best}",
            remedy="its weights or its arithmetic are broken: try float32",
        )
    return best


def _apply(step: Step, before: Candidates, records: list[StepRecord] | None) -> Candidates:
    after = step.apply(before)
    if records is not None:
        records.append(record_step(step.name, before, after))
    return after


def _check_ids(name: str, ids: Iterable[int], vocabulary: int) -> None:
    for token in ids:
        if token >= vocabulary:
            raise InputError(
                f"{name} names token {token}, the model has tokens 0..{vocabulary - 1}",
                remedy="take ids from this model's tokenizer",
            )


def _adjusting(settings: Settings, history: History) -> list[Step]:
    """The steps over the whole vocabulary that are on."""
    steps = []
    for name, function, off in (
        ("repetition_penalty", adjust.repetition, 1.0),
        ("presence_penalty", adjust.presence, 0.0),
        ("frequency_penalty", adjust.frequency, 0.0),
    ):
        value = getattr(settings, name)
        if value != off:
            steps.append(Step(name, partial(function, history=history, penalty=value)))
    if settings.logit_bias:
        steps.append(Step("logit_bias", partial(adjust.bias, added=settings.logit_bias)))
    return steps


def _narrowing(settings: Settings) -> list[Step]:
    """The steps that shape and cut the distribution and are on."""
    if settings.greedy:
        return [Step("greedy", filters.likeliest)]
    steps = [Step("temperature", partial(filters.temperature, value=settings.temperature))]
    if settings.top_n_sigma:
        steps.append(Step("top_n_sigma", partial(filters.top_n_sigma, n=settings.top_n_sigma)))
    if settings.top_k:
        steps.append(Step("top_k", partial(filters.top_k, k=settings.top_k)))
    for name, function, off in (
        ("top_p", filters.top_p, 1.0),
        ("min_p", filters.min_p, 0.0),
        ("typical_p", filters.typical, 1.0),
    ):
        value = getattr(settings, name)
        if value != off:
            steps.append(Step(name, partial(function, p=value)))
    return steps
