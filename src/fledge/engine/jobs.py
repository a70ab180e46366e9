"""The kinds of requests: answers drawn from one prompt, a beam search, the scoring of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fledge.core.errors import FledgeError
from fledge.engine.adapters import Adapter
from fledge.engine.answer import Answer, Asked
from fledge.engine.chain.beam import Beam, BeamSearch, best_of
from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.sampler import find_best
from fledge.engine.loop import Drawn, Inbox, Job, Loop
from fledge.engine.prompt import PromptReader
from fledge.engine.request import Generation, Token
from fledge.engine.step import Piece
from fledge.engine.text import TextStream


class _Job:
    """What all kinds share: ``number`` names the job in the inbox of whoever asked."""

    def __init__(self, inbox: Inbox, number: int) -> None:
        inbox.open += 1
        self.number = number
        self._inbox = inbox

    def tell(self, *news: Any) -> None:
        """News for the one who asked."""
        self._inbox.news.extend((self.number, one) for one in news)

    def end(self) -> None:
        """Everything has been told."""
        self._inbox.open -= 1

    def fail(self, error: FledgeError) -> None:
        """It is over; its sequences are gone."""
        self.tell(error)
        self.end()

    def settle(self, drawn: Drawn) -> None:
        """Nothing to change."""

    def prepare(self, loop: Loop) -> None:
        """Nothing to fork or draft."""


class AnswerJob(_Job):
    """``n`` answers, or ``best_of`` of which ``n`` are given, to one prompt that is read once."""

    def __init__(self, inbox: Inbox, number: int, asked: Asked) -> None:
        super().__init__(inbox, number)
        self._asked = asked
        settings = asked.settings
        self._ranked = settings.best_of is not None and settings.best_of > settings.n
        if self._ranked and not settings.logprobs:  # answers are compared by them
            asked = replace(asked, settings=replace(settings, logprobs=True))
        width = settings.best_of if settings.best_of is not None else settings.n
        grammar = asked.grammar
        states = [grammar, *(None if grammar is None else grammar.copy() for _ in range(width - 1))]
        self._answers = [Answer(asked, number, state) for number, state in enumerate(states)]
        self._writing: dict[int, Answer] = {}  # by sequence
        self._parent = -1  # the sequence that read the prompt
        self._prompt: PromptReader | None = None
        if settings.echo and settings.logprobs:
            self._prompt = PromptReader(asked.prompt, asked.vocabulary, settings.top_logprobs)
        self._new: list[Answer] = []  # drawn from its first row, not yet sequences
        self._finished = 0

    def begin(self, loop: Loop) -> None:
        """Submit the prompt."""
        asked, self._cached = self._asked, loop.scheduler.cached
        number = submit(
            self, loop, asked, asked.prompt, logits_from=-1 if self._prompt is None else 0
        )
        self._writing[number] = self._answers[0]
        self._parent = number

    def read(self, piece: Piece, rows: Floats) -> Sequence[int] | None:
        """The tokens that follow; the first row of all is read by every answer."""
        answer = self._writing[piece.sequence]
        if self._prompt is not None:
            rows = self._prompt.read(piece, rows)
            if not len(rows):
                return None
            for one in self._answers:
                one.prompt_choices = self._prompt.choices
            self._prompt = None
        known = len(self._asked.prompt) + len(answer.drawn)
        first = not answer.drawn
        if first:
            answer.cached = self._cached(piece.sequence)
        tokens = self._draw(answer, rows, piece.tokens[known - piece.start :])
        if first:
            for other in self._answers[1:]:
                self._draw(other, rows, ())
                if not other.done:
                    self._new.append(other)
        if answer.done:
            del self._writing[piece.sequence]
            return ()
        return tokens

    def prepare(self, loop: Loop) -> None:
        """The other answers go on, sharing the prompt, and what may come is drafted."""
        asked = self._asked
        for answer in self._new:
            if self._parent in self._writing:
                number = loop.fork(self, self._parent, len(asked.prompt), answer.drawn)
            else:  # the parent has ended already; its blocks are remembered
                number = submit(self, loop, asked, (*asked.prompt, *answer.drawn))
            self._writing[number] = answer
        self._new.clear()
        if asked.settings.lookup or (asked.settings.draft and asked.drafter is not None):
            for number, answer in self._writing.items():
                if guess := answer.guess():
                    loop.scheduler.draft(number, guess)

    def _draw(self, answer: Answer, rows: Floats, draft: Sequence[int]) -> Sequence[int]:
        tokens: Sequence[int]
        if self._asked.room:
            tokens, news = answer.read(rows, draft)
        else:
            tokens, news = (), [answer.skip()]
        if not self._ranked:
            self.tell(*news)
        if answer.done:
            self._finished += 1
            if self._finished == len(self._answers):
                self._rank()
                self.end()
        return tokens

    def _rank(self) -> None:
        """All answers are there: with ``best_of`` the best become known only now."""
        if not self._ranked:
            return
        ranks = best_of([answer.logprobs for answer in self._answers], self._asked.settings.n)
        for place, index in enumerate(ranks):
            made = self._answers[index].generation
            assert made is not None
            if not self._asked.settings.logprobs:
                made = replace(made, choices=())
            self.tell(whole(made, place))


class BeamJob(_Job):
    """The best answers a beam search finds; each beam is a sequence, forked from its parent."""

    def __init__(self, inbox: Inbox, number: int, asked: Asked) -> None:
        super().__init__(inbox, number)
        self._asked = asked
        settings = asked.settings
        self._stop_ids = asked.stop_ids | frozenset(settings.stop_ids)
        self._search = BeamSearch(
            settings.beams, asked.room, self._stop_ids, settings.length_penalty
        )
        self._sequences: list[int] = []  # of the live beams, in their order
        self._rows: dict[int, Floats] = {}  # by sequence, until all beams have theirs
        self._present: set[int] = set()  # sequences read in this step: they can go on
        self._going: dict[int, int] = {}  # beam that goes on in its parent's sequence -> that
        self._beams: list[Beam] = []  # those of the step, until they are sequences
        self._parents: list[int] = []  # sequences of the step before

    def begin(self, loop: Loop) -> None:
        """Submit the prompt, the only beam."""
        asked = self._asked
        self._sequences = [submit(self, loop, asked, asked.prompt)]

    def read(self, piece: Piece, rows: Floats) -> Sequence[int]:
        """Keep the row; that the sequence ends here is changed when all beams have theirs."""
        logits = rows[-1][: self._asked.vocabulary]
        find_best(logits)
        self._rows[piece.sequence] = log_softmax(logits[None])[0]
        self._present.add(piece.sequence)
        return ()

    def settle(self, drawn: Drawn) -> None:
        """When all beams have been read: who goes on, and the first child of each in its place."""
        if len(self._rows) == len(self._sequences):
            parents = self._parents = self._sequences
            self._beams = self._search.step(np.stack([self._rows[n] for n in parents]))
            self._rows.clear()
            if self._search.done:
                self._finish()
            for place, beam in enumerate(self._beams):
                parent = parents[beam.parent]
                if parent in self._present and not drawn[parent]:
                    drawn[parent] = beam.tokens[-1:]
                    self._going[place] = parent
        self._present.clear()

    def prepare(self, loop: Loop) -> None:
        """The other children are forked from the first, or start anew where the parent ended."""
        if not self._beams:
            return
        asked, going = self._asked, set(self._going.values())
        sequences = []
        for place, beam in enumerate(self._beams):
            parent = self._parents[beam.parent]
            if place in self._going:
                sequences.append(parent)
            elif parent in going:
                keep = len(asked.prompt) + len(beam.tokens) - 1
                sequences.append(loop.fork(self, parent, keep, beam.tokens[-1:]))
            else:
                sequences.append(submit(self, loop, asked, (*asked.prompt, *beam.tokens)))
        self._sequences, self._beams = sequences, []
        self._going.clear()

    def _finish(self) -> None:
        self._beams = []
        for place, beam in enumerate(self._search.best(self._asked.settings.n)):
            self.tell(whole(self._generation(beam), place))
        self.end()

    def _generation(self, beam: Beam) -> Generation:
        stopped = bool(beam.tokens) and beam.tokens[-1] in self._stop_ids
        tokens = beam.tokens[:-1] if stopped else beam.tokens
        text = TextStream()
        for token in tokens:
            text.push(self._asked.tokenizer.token_bytes(token))
        text.close()
        return Generation(
            text=text.text,
            token_ids=tokens,
            finish_reason="stop" if stopped else "length",
            prompt_tokens=len(self._asked.prompt),
        )


class ScoreJob(_Job):
    """log p, in nats, of each token of a text given those before it; all but the first."""

    def __init__(
        self,
        inbox: Inbox,
        number: int,
        ids: Sequence[int],
        vocabulary: int,
        adapter: Adapter | None = None,
    ) -> None:
        super().__init__(inbox, number)
        self._ids = ids
        self._vocabulary = vocabulary
        self._adapter = adapter
        self._found = np.zeros(len(ids) - 1, np.float32)

    def begin(self, loop: Loop) -> None:
        """Submit all but the last token, which nothing follows."""
        read = self._ids[:-1]
        scope = () if self._adapter is None else self._adapter.scope
        loop.submit(self, read, limit=len(read), scope=scope, logits_from=0)

    def read(self, piece: Piece, rows: Floats) -> Sequence[int] | None:
        """Keep the log-probabilities of the tokens that came."""
        start = piece.start + len(piece.tokens) - len(rows)
        logp = log_softmax(rows[:, : self._vocabulary])
        stop = start + len(rows)
        self._found[start:stop] = logp[np.arange(len(rows)), self._ids[start + 1 : stop + 1]]
        if stop < len(self._found):
            return None
        self.tell(self._found)
        self.end()
        return ()


def submit(job: Job, loop: Loop, asked: Asked, tokens: Sequence[int], logits_from: int = -1) -> int:
    """A sequence for the request, which begins with ``tokens``; its number."""
    return loop.submit(
        job,
        tokens,
        limit=asked.limit,
        client=asked.client,
        scope=asked.scope,
        logits_from=logits_from,
    )


def whole(made: Generation, place: int) -> Token:
    """A generation that comes in one piece, as the news of its last token."""
    last = made.token_ids[-1] if made.token_ids else -1
    return Token(id=last, text=made.text, answer=place, generation=made)


def log_softmax(logits: Floats) -> Floats:
    """(n,V) -> (n,V), in nats."""
    shifted = logits - logits.max(-1, keepdims=True)
    sums = np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)
    return shifted - np.log(sums).astype(np.float32)
