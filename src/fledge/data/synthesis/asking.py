"""A chat model in; answers to filled-in templates out, with seeds that a second run repeats."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message

Language = Literal["en", "zh-Hans", "zh-Hant"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

Template = Mapping[Language, str]
"""A prompt in each language, with ``{names}`` to fill in."""


class UnusableError(Exception):
    """What the model wrote cannot be used; the message is a stable short reason."""


class Asker:
    """Asks ``model``; each question of a task is drawn with a seed of its own.

    The seeds follow from ``sampling.seed``, the task's key and the number of the question, so that
    neither the order of tasks nor a killed run changes an answer.
    """

    def __init__(self, model: ChatModel, sampling: Sampling, language: Language, key: str) -> None:
        self._model = model
        self._sampling = sampling
        self._key = key
        self._asked = 0
        self.language: Language = language

    def fill(self, template: Template, **values: object) -> str:
        """The template in the asker's language, filled in."""
        return template[self.language].format(**values)

    def ask(self, template: Template, **values: object) -> str:
        """The answer to a template filled in; raises UnusableError when it is cut off or empty."""
        return self.answer([Message(role="user", content=self.fill(template, **values))])

    def answer(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation; raises UnusableError when it is cut off or empty."""
        self._asked += 1
        drawn = replace(self._sampling, seed=seed_of(self._sampling.seed, self._key, self._asked))
        reply = self._model.chat(messages, drawn)
        if reply.finish_reason == "length":
            raise UnusableError("cut_off")
        if not reply.text.strip():
            raise UnusableError("empty")
        return reply.text.strip()


def seed_of(seed: int | None, key: str, number: int) -> int:
    """A seed for the ``number``-th question of the task ``key``: 31 bits."""
    digest = hashlib.sha256(f"{seed}/{key}/{number}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


_NUMBERED = re.compile(
    r"^\s*(?:[-*•]\s+|\d{1,2}[.)](?!\d)\s*|(?:\d{1,2}|[一二三四五六七八九十]{1,2})[、．：）]\s*)(.+)$"
)


def listed(text: str) -> list[str]:
    """The items of a numbered or bulleted list, one a line; other lines are left aside."""
    found = (_NUMBERED.match(line) for line in text.splitlines())
    return [match[1].strip() for match in found if match]


def made_row(
    messages: Sequence[Message], method: str, model: str, seed: int, **more: object
) -> dict[str, object]:
    """A conversation as a row, with how it came about in ``metadata``."""
    metadata = {"method": method, "model": model, "seed": seed, **more}
    return {"messages": [message.to_openai() for message in messages], "metadata": metadata}
