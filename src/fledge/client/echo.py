"""A chat model that says what a script tells it: for tests, and for trying a door."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Delta, Reply, Sampling, Usage
from fledge.core.types import Message

Script = Callable[[Sequence[Message]], str]

_PIECE = re.compile(r"\s*\S+|\s+\Z")
"""What counts as a token here: a word with the space before it."""


class Echo:
    """A ``ChatModel`` with scripted replies.

    ``replies``: texts given one after another, or a function of the conversation; without any,
    the last message is repeated.  ``pause``: seconds before each piece of a stream.
    """

    def __init__(
        self,
        replies: Sequence[str] | Script | None = None,
        *,
        name: str = "echo",
        pause: float = 0.0,
    ) -> None:
        self.name = name
        self.pause = pause
        if replies is None:
            self._script: Script = _last_message
        elif callable(replies):
            self._script = replies
        else:
            self._script = _in_turn(list(replies))

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        """The whole answer."""
        reply = None
        for delta in self.stream(messages, sampling):
            reply = delta.reply
        assert reply is not None, "the last delta carries the reply"
        return reply

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """The answer word by word."""
        if not messages:
            raise InputError("the conversation is empty", remedy="send at least one message")
        prompt = sum(len(_PIECE.findall(message.content)) for message in messages)
        return self._say(self._script(messages), prompt, sampling)

    def complete(self, prompt: str, sampling: Sampling) -> Iterator[Delta]:
        """The script's answer to ``prompt`` as if it were a message."""
        return self.stream([Message(role="user", content=prompt)], sampling)

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        """Raises FledgeError: a script has no probabilities."""
        raise FledgeError(f"{self.name} cannot score: a script has no probabilities")

    def _say(self, text: str, prompt_tokens: int, sampling: Sampling) -> Iterator[Delta]:
        cuts = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        pieces = _PIECE.findall(text[: min(cuts)] if cuts else text)
        finish = "stop" if len(pieces) <= sampling.max_new_tokens else "length"
        pieces = pieces[: sampling.max_new_tokens]
        for piece in pieces:
            time.sleep(self.pause)
            yield Delta(text=piece)
        reply = Reply(
            text="".join(pieces),
            finish_reason=finish,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(pieces)),
            model=self.name,
        )
        yield Delta(text="", reply=reply)


def _last_message(messages: Sequence[Message]) -> str:
    return messages[-1].content


def _in_turn(replies: list[str]) -> Script:
    def say(messages: Sequence[Message]) -> str:
        if not replies:
            raise FledgeError("the script has no more replies", remedy="write one per question")
        return replies.pop(0)

    return say
