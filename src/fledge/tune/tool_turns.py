"""A drawn turn in; its calls, their results, and the tokens that lead to the next turn out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.protocols import Tool
from fledge.core.types import Message, ToolCall
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.calculator import Calculator
from fledge.tune.judging import within

OPEN, CLOSE = "<tool_call>", "</tool_call>"
THINK, THOUGHT = "<think>", "</think>"

_CALL = re.compile(re.escape(OPEN) + r"(.*?)(?:" + re.escape(CLOSE) + r"|\Z)", re.DOTALL)

TOOLS: dict[str, type[Tool]] = {"calculator": Calculator}
"""By the names that configs use."""

LONGEST = 2000
"""Characters of a tool's result that the model reads."""


def find_tools(names: Sequence[str]) -> dict[str, Tool]:
    """The tools of these names; raises InputError for one that nobody bears."""
    for name in names:
        if name not in TOOLS:
            raise InputError(
                f"tools: there is none called {name!r}", remedy=nearest(name, [*TOOLS])
            )
    return {name: TOOLS[name]() for name in names}


def described(tools: Mapping[str, Tool]) -> list[dict[str, Any]]:
    """The tools as the chat template shows them (OpenAI's form)."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
            },
        }
        for tool in tools.values()
    ]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a drawn turn says.  ``broken``: calls that are none."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    broken: int = 0


def read_turn(tokenizer: Tokenizer, ids: Sequence[int], first_call: int = 0) -> Turn:
    """The turn's text, without thinking and calls, and its calls.

    ``ids``: as drawn, the end of the turn left out.  ``first_call`` numbers the calls, so that the
    same answer has the same ids.
    """
    whole = tokenizer.decode(ids, specials=True)
    if THOUGHT in whole:
        whole = whole.rpartition(THOUGHT)[2]
    elif THINK in whole:
        whole = whole.partition(THINK)[0]
    calls: list[ToolCall] = []
    broken = 0
    for body in _CALL.findall(whole):
        call = _call(body, f"call_{first_call + len(calls)}")
        if call is None:
            broken += 1
        else:
            calls.append(call)
    return Turn(text=whole.partition(OPEN)[0].strip(), calls=tuple(calls), broken=broken)


def _call(body: str, name: str) -> ToolCall | None:
    try:
        value = json.loads(body)
        tool, arguments = value["name"], value["arguments"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(tool, str) or not isinstance(arguments, dict):
        return None
    return ToolCall(id=name, name=tool, arguments=json.dumps(arguments, ensure_ascii=False))


def answer_calls(turn: Turn, tools: Mapping[str, Tool], seconds: float) -> list[Message]:
    """The results of a turn's calls as messages; what went wrong is told to the model."""
    return [
        Message(role="tool", content=_result(call, tools, seconds), tool_call_id=call.id)
        for call in turn.calls
    ]


def _result(call: ToolCall, tools: Mapping[str, Tool], seconds: float) -> str:
    tool = tools.get(call.name)
    if tool is None:
        return f"error: there is no tool {call.name!r}"
    try:
        return within(lambda: tool.call(json.loads(call.arguments)), seconds)[:LONGEST]
    except TimeoutError:
        return f"error: it took more than {seconds:g} s"
    except Exception as error:  # a tool must not end the training
        return f"error: {error}"[:LONGEST]


def leading_on(
    tokenizer: Tokenizer,
    before: Sequence[Message],
    after: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    stop_ids: frozenset[int],
) -> list[int]:
    """The template's tokens between the end of a turn and the begin of the next one.

    ``before`` ends with the assistant's turn, ``after`` are the results of its calls.  Only what
    the template writes behind the token that ends the turn is taken: the turn itself stays as it
    was drawn.  Raises InputError for a template that writes earlier turns anew.
    """
    openai = [message.to_openai() for message in before]
    said = tokenizer.encode_chat(openai, tools or None)
    ends = [place for place, token in enumerate(said) if token in stop_ids]
    more = [message.to_openai() for message in after]
    whole = tokenizer.encode_chat([*openai, *more], tools or None, add_generation_prompt=True)
    cut = ends[-1] + 1 if ends else 0
    if not ends or whole[:cut] != said[:cut]:
        raise InputError(
            "the chat template writes earlier turns anew when a tool answers",
            remedy="use a template that only appends, such as ChatML",
        )
    return whole[cut:]


def spoken(turn: Turn) -> Message:
    """The turn as a message."""
    return Message(role="assistant", content=turn.text, tool_calls=turn.calls)
