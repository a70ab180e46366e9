"""One answer on its way: rows of logits in, drawn tokens out, until a stop, the grammar's end
or the last token there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fledge.engine.adapters import Adapter
from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.lookup import NgramIndex
from fledge.engine.chain.sampler import Choice, Sampler
from fledge.engine.chain.settings import Settings
from fledge.engine.drafting import Drafter
from fledge.engine.grammar import GrammarState
from fledge.engine.request import Generation, Token
from fledge.engine.text import TextStream
from fledge.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and how to answer it, all checked."""

    prompt: tuple[int, ...]
    settings: Settings
    stop_ids: frozenset[int]
    room: int
    """The most tokens to draw: what is asked for, and what the context holds."""
    vocabulary: int
    """Tokens that may be drawn; a model may have rows of logits beyond them."""
    tokenizer: Tokenizer
    client: str = ""
    """Whom the work is charged to: clients take turns."""
    grammar: GrammarState | None = None
    """At its beginning."""
    drafter: Drafter | None = None
    """Guesses what prompt lookup does not know."""
    adapter: Adapter | None = None
    """Changes the model's weights for this request."""

    @property
    def scope(self) -> tuple[str, ...]:
        """What keys and values depend on besides tokens."""
        return () if self.adapter is None else self.adapter.scope

    @property
    def limit(self) -> int:
        """The most tokens of prompt and answer."""
        return len(self.prompt) + self.room


class Answer:
    """Draws one answer; ``number`` is its place among the ``n`` of a request."""

    def __init__(self, asked: Asked, number: int, grammar: GrammarState | None) -> None:
        settings = asked.settings
        if number and settings.seed is not None:  # answers of one request must differ
            settings = replace(settings, seed=settings.seed + number)
        self.number = number
        self.drawn: list[int] = []
        self.done = False
        self.generation: Generation | None = None
        self.cached = 0
        self.prompt_choices: tuple[Choice, ...] = ()
        self._asked = asked
        self._grammar = grammar
        self._sampler = Sampler(settings, asked.vocabulary, asked.prompt, asked.stop_ids)
        self._text = TextStream(settings.stop)
        self._tells = settings.logprobs or settings.inspect
        self._choices: list[Choice] = []
        self._index = NgramIndex(asked.prompt) if settings.lookup else None
        self._drafted = self._accepted = 0

    @property
    def logprobs(self) -> list[float]:
        """log p of each token drawn, as the model has it; only with ``logprobs``."""
        return [choice.before.token for choice in self._choices if choice.before is not None]

    def read(self, rows: Floats, draft: Sequence[int]) -> tuple[list[int], list[Token]]:
        """Draw from rows (1+len(draft), V): the tokens that follow, and the news of each.

        Row i is behind the first i drafted tokens; a draw that is not the drafted token makes the
        later rows worthless.  That is exact: each token is drawn as ever, whatever was guessed.
        Raises FledgeError when the logits are broken or nothing is left to draw.
        """
        news: list[Token] = []
        before = len(self.drawn)
        self._drafted += len(draft)
        place, agreed = 0, True
        while agreed and not self.done and place < len(rows):
            allowed = None if self._grammar is None else self._grammar.mask()
            choice = self._sampler.choose(rows[place][: self._asked.vocabulary], allowed)
            for token in (self._take(choice), *self._forced()):
                news.append(token)
                agreed = agreed and place < len(draft) and token.id == draft[place]
                self._accepted += agreed
                place += agreed
        return self.drawn[before:], news

    def skip(self) -> Token:
        """End it before its first token: there is nothing to draw."""
        return self._finish(Choice(-1), "", "length")

    def guess(self) -> tuple[int, ...]:
        """What prompt lookup or the draft model expects next; nothing when they have no idea."""
        asked = self._asked
        guess: tuple[int, ...] = ()
        if self.done:
            return ()
        if self._index is not None:
            guess = self._index.guess(asked.settings.lookup)
        if not guess and asked.drafter is not None and asked.settings.draft:
            guess = asked.drafter.guess([*asked.prompt, *self.drawn], asked.settings.draft)
        if self._grammar is not None and guess:
            guess = guess[: self._grammar.valid_prefix(guess)]
        return guess

    def _forced(self) -> Iterator[Token]:
        """Take the tokens that the grammar leaves no choice about, without a draw.

        Who asks how tokens are drawn gets them drawn.
        """
        if self._grammar is None or self._tells or self.done:
            return
        for token in self._grammar.forced():
            yield self._take(Choice(token))
            if self.done:
                return

    def _take(self, choice: Choice) -> Token:
        """The next token of the answer."""
        token = choice.token
        if self._tells:
            self._choices.append(choice)
        if self._grammar is not None:
            self._grammar.accept(token)
        if token in self._sampler.stop_ids:
            return self._finish(choice, self._text.close(), "stop")
        self._sampler.push(token)
        if self._index is not None:
            self._index.push(token)
        self.drawn.append(token)
        text = self._text.push(self._asked.tokenizer.token_bytes(token))
        if self._text.stopped:
            return self._finish(choice, text, "stop")
        if self._grammar is not None and self._grammar.ended:
            return self._finish(choice, text + self._text.close(), "stop")
        if len(self.drawn) >= self._asked.room:
            return self._finish(choice, text + self._text.close(), "length")
        return self._news(choice, text)

    def _finish(self, choice: Choice, text: str, reason: str) -> Token:
        self.done = True
        self.generation = Generation(
            text=self._text.text,
            token_ids=tuple(self.drawn),
            finish_reason=reason,
            prompt_tokens=len(self._asked.prompt),
            choices=tuple(self._choices),
            prompt_choices=self.prompt_choices,
            cached_tokens=self.cached,
            drafted=self._drafted,
            accepted=self._accepted,
        )
        return self._news(choice, text)

    def _news(self, choice: Choice, text: str) -> Token:
        first = len(self.drawn) + self.done == 1
        return Token(
            id=choice.token,
            text=text,
            answer=self.number,
            choice=choice if self._tells and choice.token >= 0 else None,
            prompt_choices=self.prompt_choices if first else (),
            generation=self.generation,
        )
