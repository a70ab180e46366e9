"""A language model asked for short lines; what it writes out of form is reported, never raised."""

from __future__ import annotations

import re

from fledge.core.errors import FledgeError
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from fledge.rag.trace import Stage

LONGEST = 400
"""Characters of a line that may pass for a question."""
ROOM = 256
"""Tokens it may write."""

_BULLET = re.compile(
    r"^\s*(?:[-*+•·]+\s+|[(（]?\d{1,2}[.)）:、：]\s*|(?:query|question|问题|問題|查询|查詢)\s*\d*\s*[:：]\s*)+",
    re.IGNORECASE,
)
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_QUOTES = "\"'`“”‘’「」『』*_"


def ask_model(model: ChatModel, prompt: str, stage: Stage) -> str:
    """What it writes, without thoughts; "" with a note when it fails or writes nothing."""
    try:
        reply = model.chat([Message(role="user", content=prompt)], Sampling(max_new_tokens=ROOM))
    except FledgeError as error:
        stage.notes.append(f"the model failed: {error}")
        return ""
    stage.used(reply.usage)
    text = _THINKING.sub("", reply.text).strip()
    if not text:
        stage.notes.append("the model wrote nothing")
    return text


def lines_of(text: str, most: int, known: tuple[str, ...] = ()) -> list[str]:
    """Up to ``most`` different lines without their bullets and quotation marks.

    Left out: what is in ``known``, longer than a question, without a letter or digit, and lines
    that only announce a list (they end with a colon).
    """
    found: list[str] = []
    seen = {_plain(one) for one in known}
    for raw in text.splitlines():
        line = _BULLET.sub("", raw).strip().strip(_QUOTES).strip()
        announces = line.endswith((":", "："))
        if not _plain(line) or announces or len(line) > LONGEST or _plain(line) in seen:
            continue
        seen.add(_plain(line))
        found.append(line)
    return found[:most]


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
