"""Conversations longer than the context: whole turns are left out, the oldest first.

A prompt that just fits is no use either: its answer would be cut off after a token or two.  So a
conversation fits when it leaves ``ANSWER_ROOM`` tokens for the answer, or the most tokens that
were asked for if they are fewer.  Only whoever knows the tokenizer can tell; it is asked by trying
(``RoomyModel``), and refuses with ContextLengthError before it writes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol, runtime_checkable

from fledge.core.protocols import ChatModel, Delta, Sampling
from fledge.core.types import Message
from fledge.engine.errors import ContextLengthError

ANSWER_ROOM = 48
"""Tokens that a conversation leaves for its answer: about two sentences."""


@runtime_checkable
class RoomyModel(Protocol):
    """A chat model that can refuse a conversation for leaving too little room for the answer."""

    def stream_in_room(
        self, messages: Sequence[Message], sampling: Sampling, room: int
    ) -> Iterator[Delta]:
        """``stream`` when ``room`` tokens (or ``max_new_tokens``, if fewer) are free for it.

        Raises ContextLengthError otherwise: at once, or with the first piece.
        """


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An answer to as much of a conversation as fits.

    ``left_out``: messages left out, all older than the rest except system prompts.  ``context``:
    the most tokens the model reads, None when nothing was left out or the server does not say.
    """

    deltas: Iterator[Delta]
    left_out: int
    context: int | None


def stream_in_room(
    model: ChatModel, messages: Sequence[Message], sampling: Sampling, room: int
) -> Iterator[Delta]:
    """``RoomyModel.stream_in_room``, or ``stream`` of a model that cannot tell."""
    if room and isinstance(model, RoomyModel):
        return model.stream_in_room(messages, sampling, room)
    return model.stream(messages, sampling)


def stream_what_fits(
    model: ChatModel, messages: Sequence[Message], sampling: Sampling, room: int = ANSWER_ROOM
) -> Fitted:
    """The answer to ``messages``, without the oldest turns if they do not fit.

    System prompt and last question always stay.  When these two alone leave less than ``room``
    they are asked all the same: a short answer is better than none.  Raises ContextLengthError
    when they leave nothing.
    """
    kept = list(messages)
    context: int | None = None
    while True:
        try:
            deltas = stream_in_room(model, kept, sampling, room)
            first = next(deltas)  # a server refuses only now
        except ContextLengthError as error:
            shorter = without_oldest_turn(kept)
            if shorter is None and not room:
                raise
            if shorter is None:
                room = 0
            else:
                kept, context = shorter, error.context
            continue
        return Fitted(
            deltas=_joined(first, deltas), left_out=len(messages) - len(kept), context=context
        )


def without_oldest_turn(messages: Sequence[Message]) -> list[Message] | None:
    """``messages`` without the first question and all up to the second; None if there is one."""
    system = list(takewhile(lambda message: message.role == "system", messages))
    spoken = messages[len(system) :]
    questions = [place for place, message in enumerate(spoken) if message.role == "user"]
    later = [place for place in questions if place > 0]
    return [*system, *spoken[later[0] :]] if later else None


def _joined(first: Delta, rest: Iterator[Delta]) -> Iterator[Delta]:
    """All pieces; closing it closes ``rest``."""
    try:
        yield first
        yield from rest
    finally:
        getattr(rest, "close", lambda: None)()
