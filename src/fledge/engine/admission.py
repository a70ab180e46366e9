"""Requests as they come in, requests that can be computed out: everything is checked here once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling
from fledge.engine.adapters import Adapters
from fledge.engine.answer import Asked
from fledge.engine.chain.sampler import Sampler
from fledge.engine.chain.settings import Settings
from fledge.engine.drafting import Drafter
from fledge.engine.errors import ContextLengthError
from fledge.engine.forms import Forms
from fledge.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fledge.engine.grammar import Grammar


class Admission:
    """What one engine takes: prompts of its ``vocabulary`` that fit its ``context``."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: frozenset[int],
        vocabulary: int,
        context: int,
        drafter: Drafter | None,
        adapters: Adapters,
    ) -> None:
        self.forms = Forms(tokenizer, stop_ids, vocabulary)
        self._tokenizer, self._stop_ids = tokenizer, stop_ids
        self._vocabulary, self._context = vocabulary, context
        self._drafter = drafter
        self._adapters = adapters

    def admit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stop_ids: Iterable[int] | None = None,
        grammar: Grammar | None = None,
        client: str = "",
        adapter: str = "",
    ) -> Asked:
        """The request, whole; raises InputError for the first thing that is wrong with it."""
        if not prompt:
            raise InputError("the prompt has no tokens", remedy="write something")
        self.check_ids(prompt)
        settings = self._settings(sampling)
        if len(prompt) + min(1, settings.max_new_tokens) > self._context:
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens, the model's context holds"
                f" {self._context} with the answer",
                tokens=len(prompt),
                context=self._context,
            )
        if settings.structure is not None and grammar is None:
            grammar = self.forms.compiled(settings.structure)
        asked = Asked(
            prompt=tuple(prompt),
            settings=settings,
            stop_ids=self._stop_ids if stop_ids is None else frozenset(stop_ids),
            room=min(settings.max_new_tokens, self._context - len(prompt)),
            vocabulary=self._vocabulary,
            tokenizer=self._tokenizer,
            client=client,
            grammar=None if grammar is None else grammar.start(),
            drafter=self._drafter,
            adapter=self._adapters.get(adapter) if adapter else None,
        )
        if settings.beams > 1:
            _check_beams(asked)
        return asked

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise InputError where the model has no such token."""
        if not all(0 <= token < self._vocabulary for token in ids):
            raise InputError(
                f"the prompt has a token id outside 0..{self._vocabulary - 1}",
                remedy="encode it with the tokenizer of this model",
            )

    def _settings(self, sampling: Sampling) -> Settings:
        settings = sampling if isinstance(sampling, Settings) else Settings.of(sampling)
        if settings.draft and self._drafter is None:
            raise InputError(
                f"draft = {settings.draft}, but the engine was loaded without a draft model",
                remedy="load it with draft=DIR, or draft='self' to skip layers",
            )
        Sampler(settings, self._vocabulary)  # refuses ids that the model has not
        return settings


def _check_beams(asked: Asked) -> None:
    """Refuse what a beam search, which ranks whole answers, has no place for."""
    settings = asked.settings
    penalties = (settings.presence_penalty, settings.frequency_penalty)
    odd = {
        "temperature": not settings.greedy,
        "stop": bool(settings.stop),
        "a grammar": asked.grammar is not None,
        "lookup": settings.lookup > 0,
        "draft": settings.draft > 0,
        "logprobs": settings.logprobs,
        "inspect": settings.inspect,
        "min_tokens": settings.min_tokens > 0,
        "logit_bias": bool(settings.logit_bias),
        "penalties": settings.repetition_penalty != 1 or any(penalties),
    }
    for name, given in odd.items():
        if given:
            raise InputError(
                f"beams = {settings.beams} cannot be combined with {name}",
                remedy="leave one of them out",
            )
