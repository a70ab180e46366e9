"""Files of preference pairs and judged answers in and out; the forms of a row are elsewhere.

Reading takes every form of ``preference_forms``; writing gives one, TRL's of message lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fledge.core.types import Message
from fledge.data.chat_forms import Conversation
from fledge.data.json_rows import read_parsed
from fledge.data.preference_forms import Judged as Judged
from fledge.data.preference_forms import Preference as Preference
from fledge.data.preference_forms import parse_judged, parse_preference


def read_preferences(path: Path) -> Iterator[Preference]:
    """The pairs of a file; raises InputError naming file, line and field."""
    return read_parsed(path, "preferences", lambda row, origin: [parse_preference(row, origin)])


def read_judged(path: Path) -> Iterator[Judged]:
    """The judged answers of a file; raises InputError naming file, line and field."""
    return read_parsed(path, "judged answers", lambda row, origin: [parse_judged(row, origin)])


def preference_row(pair: Preference) -> dict[str, Any]:
    """``{"prompt", "chosen", "rejected"}`` as messages, ``margin`` and ``tools`` if there are."""
    row: dict[str, Any] = {
        "prompt": _openai(pair.prompt),
        "chosen": _openai(pair.chosen),
        "rejected": _openai(pair.rejected),
    }
    if pair.margin is not None:
        row["margin"] = pair.margin
    return _with_tools(row, pair.tools)


def judged_row(one: Judged) -> dict[str, Any]:
    """``{"prompt", "completion", "label"}`` with messages, and ``tools`` if there are."""
    row = {
        "prompt": _openai(one.prompt),
        "completion": _openai(one.completion),
        "label": one.good,
    }
    return _with_tools(row, one.tools)


def conversation_row(one: Conversation) -> dict[str, Any]:
    """``{"messages"}``, with ``weight`` 0 where one is not to be learnt; ``tools`` if any."""
    messages = [
        {**message, "weight": 0} if number in one.untaught else message
        for number, message in enumerate(_openai(one.messages))
    ]
    return _with_tools({"messages": messages}, one.tools)


def _openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_openai() for message in messages]


def _with_tools(row: dict[str, Any], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**row, "tools": [dict(tool) for tool in tools]} if tools else row
