"""The engine: token ids in, generated text out; requests of any kind computed together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Sampling
from fledge.engine.adapters import Adapters
from fledge.engine.admission import Admission
from fledge.engine.answer import Asked
from fledge.engine.drafting import DraftModel
from fledge.engine.jobs import AnswerJob, BeamJob, ScoreJob
from fledge.engine.loop import Inbox, Loop
from fledge.engine.request import Generation, Token
from fledge.engine.runner import Runner
from fledge.engine.scheduler import Scheduler
from fledge.model.config import ModelConfig
from fledge.tokenizer.template import ENDOFTEXT, IM_END
from fledge.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:  # torch is imported only when the model itself is asked for
    from fledge.engine.grammar import Grammar, Grammars
    from fledge.model.decoder import Decoder

SEQUENCES = 64
"""Sequences decoded together."""

STEP_TOKENS = 512
"""Tokens computed in a step: long prompts are read in pieces, between which others decode."""


class Engine:
    """Generates with ``runner``; ``context`` is the most tokens of a prompt and its answer.

    Requests may come from several threads, at any time, and are computed together.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        config: ModelConfig,
        *,
        name: str = "fledge",
        weight_bytes: float = 4,
        decoder: Callable[[], Decoder] | None = None,
        draft: Engine | None = None,
    ) -> None:
        """``weight_bytes``: bytes of a weight in memory.  ``decoder`` loads the model for
        PyTorch, for what needs more than the next token.  ``draft`` guesses what requests with
        ``draft`` tokens will draw; raises InputError when its vocabulary is another."""
        self.runner = runner
        self.tokenizer = tokenizer
        self.config = config
        self.name = name
        self.weight_bytes = weight_bytes
        self.context = min(config.context, runner.blocks * runner.block_size)
        self.stop_ids = _stop_ids(config, tokenizer)
        self.loop = Loop(
            runner,
            Scheduler(
                runner.blocks, runner.block_size, budget=STEP_TOKENS, max_sequences=SEQUENCES
            ),
        )
        self.vocabulary = min(tokenizer.vocab_size, config.vocab_size)
        self._decoder = decoder
        self.adapters = Adapters(runner)
        self._admission = Admission(
            tokenizer,
            self.stop_ids,
            self.vocabulary,
            self.context,
            None if draft is None else draft.drafter_for(self),
            self.adapters,
        )

    @cached_property
    def model(self) -> Decoder:
        """The decoder, loaded when it is first asked for."""
        if self._decoder is None:
            raise FledgeError(f"{self.name}: there is no decoder for PyTorch")
        return self._decoder()

    @property
    def grammars(self) -> Grammars:
        """Compiles what ``grammar`` of a request may be."""
        return self._admission.forms.grammars

    def drafter_for(self, other: Engine) -> DraftModel:
        """This engine as the draft model of another; raises InputError when it cannot be."""
        if self.tokenizer.digest != other.tokenizer.digest:
            raise InputError(
                f"the draft model {self.name} has another vocabulary than {other.name}",
                remedy="take one that was trained with the same tokenizer",
            )
        return DraftModel(self.generate, self.context)

    @property
    def chats(self) -> bool:
        """Whether the model learnt to answer: the end of a turn is one of its end tokens.

        Fine-tuning writes it there, pretraining does not; it travels with a copied checkpoint.
        """
        return _special(self.tokenizer, IM_END) in self.config.eos_ids

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text to continue, begun as documents are begun in pretraining."""
        begin = self.config.bos_id
        if begin is None:
            begin = _special(self.tokenizer, ENDOFTEXT)
        return ([] if begin is None else [begin]) + self.tokenizer.encode(text)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        stop_ids: Iterable[int] | None = None,
        grammar: Grammar | None = None,
        *,
        adapter: str | Sequence[str] = "",
    ) -> list[Generation]:
        """One generation per prompt, in order.  Parameters as in ``generate_each``."""
        done = dict(self.generate_each(prompts, sampling, stop_ids, grammar, adapter=adapter))
        return [done[index] for index in range(len(prompts))]

    def generate_each(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        stop_ids: Iterable[int] | None = None,
        grammar: Grammar | None = None,
        *,
        adapter: str | Sequence[str] = "",
    ) -> Iterator[tuple[int, Generation]]:
        """(index of the prompt, its generation), each as soon as it is finished.

        ``sampling`` is one for all or one per prompt, and so is ``adapter``, the name of a loaded
        LoRA adapter.  ``stop_ids`` end an answer and are not part of it; by default the model's
        end tokens.  Every answer follows ``grammar``.  Raises InputError for a prompt that does
        not fit the context or a sampling value out of range.
        """
        samplings = repeat(sampling) if isinstance(sampling, Sampling) else sampling
        adapters = repeat(adapter) if isinstance(adapter, str) else adapter
        asked = [
            self._admission.admit(prompt, how, stop_ids, grammar, adapter=changed)
            for prompt, how, changed in zip(prompts, samplings, adapters, strict=False)
        ]
        if len(asked) < len(prompts):
            raise InputError(
                f"{len(prompts)} prompts, and sampling or adapters for {len(asked)} of them",
                remedy="give one for all, or one for each",
            )
        return self._whole(asked)

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        stop_ids: Iterable[int] | None = None,
        grammar: Grammar | None = None,
        *,
        client: str = "",
        adapter: str = "",
    ) -> Iterator[Token]:
        """The tokens of one request as they are drawn; the last of an answer carries the whole.

        Closing the iterator stops the work.  Requests of the same ``client`` share its turns.
        Errors as in ``generate_each``, raised at once.
        """
        asked = self._admission.admit(prompt, sampling, stop_ids, grammar, client, adapter)
        return self._stream(asked)

    def tokens(
        self,
        requests: Sequence[tuple[Sequence[int], Sampling]],
        stop_ids: Iterable[int] | None = None,
    ) -> Iterator[tuple[int, Token]]:
        """All tokens of many requests as they are drawn, each with the index of its request."""
        return self._run([self._admission.admit(ids, how, stop_ids) for ids, how in requests])

    def logprobs(self, ids: Sequence[int], *, adapter: str = "") -> list[float]:
        """log p(token | tokens before it), in nats, of every token but the first: len(ids) - 1.

        Raises InputError when ``ids`` are more than the context holds.
        """
        if len(ids) > self.context:
            raise InputError(
                f"the text has {len(ids)} tokens, the model's context holds {self.context}",
                remedy="score a shorter text, or windows of it",
            )
        self._admission.check_ids(ids)
        if len(ids) < 2:
            return []
        inbox = Inbox()
        held = self.adapters.get(adapter) if adapter else None
        job = ScoreJob(inbox, 0, ids, self.config.vocab_size, held)
        (_, values), *_ = self._news(inbox, [job])
        found: list[float] = values.tolist()
        return found

    def _stream(self, asked: Asked) -> Iterator[Token]:
        with closing(self._run([asked])) as news:
            for _, token in news:
                yield token

    def _whole(self, asked: Sequence[Asked]) -> Iterator[tuple[int, Generation]]:
        """The finished generations; of several answers the first holds the others."""
        made: dict[int, dict[int, Generation]] = {}
        with closing(self._run(asked)) as news:
            for index, token in news:
                if token.generation is None:
                    continue
                answers = made.setdefault(index, {})
                answers[token.answer] = token.generation
                if len(answers) == asked[index].settings.n:
                    yield index, _with_others(made.pop(index))
        for index, answers in made.items():  # a beam search may find fewer than n
            yield index, _with_others(answers)

    def _run(self, asked: Sequence[Asked]) -> Generator[tuple[int, Token]]:
        """All tokens of all requests, each with the index of its request."""
        inbox = Inbox()
        jobs = [
            (BeamJob if one.settings.beams > 1 else AnswerJob)(inbox, index, one)
            for index, one in enumerate(asked)
        ]
        yield from self._news(inbox, jobs)  # closing this one closes that, too

    def _news(
        self, inbox: Inbox, jobs: Sequence[AnswerJob | BeamJob | ScoreJob]
    ) -> Iterator[tuple[int, Any]]:
        """What the jobs tell; errors are raised, and closing this ends the jobs."""
        try:
            for job in jobs:
                self.loop.enter(job)
            while inbox.open or inbox.news:
                self.loop.wait(inbox)
                while inbox.news:
                    number, news = inbox.news.popleft()
                    if isinstance(news, FledgeError):
                        raise news
                    yield number, news
        finally:
            for job in jobs:
                self.loop.leave(job)


def _with_others(answers: dict[int, Generation]) -> Generation:
    """The first of several answers, which holds the others."""
    first, *others = (answers[number] for number in sorted(answers))
    return replace(first, others=tuple(others)) if others else first


def _stop_ids(config: ModelConfig, tokenizer: Tokenizer) -> frozenset[int]:
    """End tokens: those of the checkpoint, the end of a turn, the end of a document."""
    known = (_special(tokenizer, IM_END), _special(tokenizer, ENDOFTEXT))
    return frozenset({*config.eos_ids, *(one for one in known if one is not None)})


def _special(tokenizer: Tokenizer, token: str) -> int | None:
    """The id of a special token, or None: foreign tokenizers have others."""
    return tokenizer.token_id(token) if tokenizer.has_token(token) else None
