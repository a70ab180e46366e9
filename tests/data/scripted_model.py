"""A chat model for tests that answers by a function, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fledge.core.protocols import Delta, Reply, Sampling, Usage
from fledge.core.types import Message

CUT = "CUT"
"""A script that says this ends an answer for its length."""


class Scripted:
    """``says(prompt, seed)`` is the answer; ``asked`` are (messages, seed) so far."""

    name = "scripted"

    def __init__(self, says: Callable[[str, int], str]) -> None:
        self._says = says
        self.asked: list[tuple[tuple[Message, ...], int]] = []

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        assert sampling.seed is not None
        self.asked.append((tuple(messages), sampling.seed))
        text = self._says(messages[-1].content, sampling.seed)
        return Reply(
            text=text,
            finish_reason="length" if text == CUT else "stop",
            usage=Usage(prompt_tokens=1, completion_tokens=1),
        )

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        raise NotImplementedError

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        raise NotImplementedError
