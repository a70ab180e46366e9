"""One request on its way: prompt and sampling in, tokens pushed one by one, a Generation out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from fledge.core.protocols import Sampling
from fledge.engine.text import TextStream
from fledge.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A finished generation.

    ``text`` has neither special tokens nor a stop text.  ``token_ids`` are the tokens drawn,
    without the stop token.  ``finish_reason``: "stop" (stop token or text) or "length"
    (``max_new_tokens`` or the context is used up).
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class Token:
    """A drawn token and the text that became certain with it (often none, sometimes more).

    The last one carries the whole ``generation``.
    """

    id: int
    text: str
    generation: Generation | None = None


class Request:
    """A prompt and what was drawn after it.  ``room``: tokens that may still be drawn."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        index: int,
        context: int,
        stop_ids: AbstractSet[int],
        tokenizer: Tokenizer,
    ) -> None:
        self.index = index
        self.prompt = list(prompt)
        self.sampling = sampling
        self.drawn: list[int] = []
        self.done = False
        self.room = min(sampling.max_new_tokens, context - len(self.prompt))
        self._stop_ids = stop_ids
        self._tokenizer = tokenizer
        self._text = TextStream(sampling.stop)
        self._random = random.Random(sampling.seed)

    @property
    def length(self) -> int:
        """The most tokens it can come to, prompt included."""
        return len(self.prompt) + self.room

    def uniform(self) -> float:
        """The request's next random number in [0,1); greedy requests need none."""
        return self._random.random() if self.sampling.temperature > 0 else 0.0

    def push(self, token: int) -> Token:
        """Take the next drawn token."""
        if token in self._stop_ids:
            return self._finish(token, self._text.close(), "stop")
        self.drawn.append(token)
        text = self._text.push(self._tokenizer.token_bytes(token))
        if self._text.stopped:
            return self._finish(token, text, "stop")
        if len(self.drawn) >= self.room:
            return self._finish(token, text + self._text.close(), "length")
        return Token(id=token, text=text)

    def _finish(self, token: int, text: str, reason: str) -> Token:
        self.done = True
        generation = Generation(
            text=self._text.text,
            token_ids=tuple(self.drawn),
            finish_reason=reason,
            prompt_tokens=len(self.prompt),
        )
        return Token(id=token, text=text, generation=generation)
