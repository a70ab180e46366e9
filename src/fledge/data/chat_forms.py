"""One JSON row in, its conversations out, whatever the form.

{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}   OpenAI
{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}       ShareGPT
{"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"]]}                Alpaca
{"prompt": "…", "completion": "…"}
{"instruction": "…", "instances": [{"input": "…", "output": "…"}]}                  self-instruct
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fledge.core.types import Message

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
CALLS = ("function_call", "tool_call")
OPENAI_ROLES = {"developer": "system", "function": "tool"}


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A dialogue to learn from.  ``origin`` names its file and line."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""
    untaught: frozenset[int] = frozenset()
    """Places of assistants' messages that are read but not learnt (loss weight 0 in the row)."""


def parse_conversation(row: Any, origin: str = "") -> Conversation:
    """The only conversation of a row; raises ValueError saying what is wrong."""
    found = parse_conversations(row, origin)
    if len(found) != 1:
        raise ValueError(f"the row holds {len(found)} conversations")
    return found[0]


def parse_conversations(row: Any, origin: str = "") -> list[Conversation]:
    """The conversations of a row in any form; raises ValueError naming the field that is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a conversation must be a JSON object")
    _refuse_preferences(row)
    tools, untaught = tools_of(row.get("tools")), frozenset[int]()
    if "messages" in row:
        messages, untaught = openai_messages(row["messages"])
        found = [messages]
    elif "conversations" in row:
        found = [sharegpt_messages(row["conversations"], row.get("system"))]
    elif "instruction" in row and "instances" in row:
        found = _self_instruct(row)
    elif "instruction" in row and "output" in row:
        found = [_alpaca(row, row["output"], "'output'")]
    elif "prompt" in row and ("completion" in row or "response" in row):
        key = "completion" if "completion" in row else "response"
        found = [_alpaca({**row, "instruction": row["prompt"]}, row[key], f"'{key}'")]
    else:
        raise ValueError(
            "expected 'messages' (OpenAI), 'conversations' (ShareGPT) or "
            f"'instruction' and 'output' (Alpaca), found {', '.join(row) or 'nothing'}"
        )
    return [
        Conversation(messages=messages, tools=tools, origin=origin, untaught=untaught)
        for messages in found
    ]


def _refuse_preferences(row: Mapping[str, Any]) -> None:
    """Pairs and judgements say which answer is better; learnt as they stand they would teach it."""
    for label in ("label", "kto_tag"):
        if isinstance(row.get(label), bool):
            raise ValueError(f"'{label}' judges the answer (KTO), which fine-tuning cannot use")
    if "output" not in row and {"chosen", "rejected"} <= set(row):
        raise ValueError("'chosen' and 'rejected' are a preference pair (DPO), not an answer")


def tools_of(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The ``tools`` of a row in OpenAI form: from a list, or the JSON text of one."""
    tools = _json(value, "'tools'") if isinstance(value, str) and value.strip() else value or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("'tools' must be a list of objects")
    bare = ({"type": "function", "function": tool} for tool in tools)
    return tuple(
        tool if "function" in tool or "name" not in tool else wrapped
        for tool, wrapped in zip(tools, bare, strict=True)
    )


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error.msg}") from None


def openai_messages(
    value: Any, name: str = "'messages'"
) -> tuple[tuple[Message, ...], frozenset[int]]:
    """The messages of the field ``name`` and the places of those that are not to be learnt."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list with at least one message")
    messages, untaught = [], set()
    for number, message in enumerate(value):
        try:
            messages.append(Message.from_openai(_plain_message(message)))
        except ValueError as error:
            raise ValueError(f"message {number + 1}: {error}") from None
        weight = message.get("loss_weight", message.get("weight", 1))
        if weight not in (0, 1, True, None):
            raise ValueError(f"message {number + 1}: a weight of {weight!r} is neither 0 nor 1")
        if weight == 0:
            untaught.add(number)
    return tuple(messages), frozenset(untaught)


def _plain_message(message: Any) -> Any:
    """A message with the usages of collections (part types, old calls) in today's OpenAI form."""
    if not isinstance(message, dict):
        return message
    role, content = message.get("role"), message.get("content")
    calls = list(message.get("tool_calls") or ())
    if isinstance(message.get("function_call"), dict):
        calls.append({"function": message["function_call"]})
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("value"), str) for part in content
    ):
        calls += [
            call
            for part in content
            if part.get("type") == "tool_call"
            for call in _calls(part["value"], "a tool_call")
        ]
        content = "".join(_part(part) for part in content if part.get("type") != "tool_call")
    plain = {**message, "role": OPENAI_ROLES.get(role, role) if isinstance(role, str) else role}
    return {**plain, "content": content, "tool_calls": [_texted(call) for call in calls]}


def _part(part: Mapping[str, str]) -> str:
    """Text of a typed part; reasoning goes between <think> and </think>, before the answer."""
    if part.get("type") == "reasoning":
        return f"<think>\n{part['value'].strip()}\n</think>\n\n"
    if part.get("type") != "text":
        raise ValueError(f"content of type {part.get('type')!r} is not text")
    return part["value"]


def _texted(call: Any) -> Any:
    """A call whose arguments are JSON text, as the OpenAI API has them."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or isinstance(function.get("arguments", ""), str):
        return call
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def sharegpt_messages(
    value: Any, system: Any = None, name: str = "'conversations'"
) -> tuple[Message, ...]:
    """The turns of the field ``name`` as messages, after a system message if there is one."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list with at least one turn")
    messages = []
    if isinstance(system, str) and system.strip():
        messages.append(Message(role="system", content=system.strip()))
    for number, turn in enumerate(value, 1):
        turn = turn if isinstance(turn, dict) else {}
        sender, text = ("from", "value") if "from" in turn or "value" in turn else ROLE_CONTENT
        where, speaker = f"turn {number}: '{text}'", turn.get(sender)
        if speaker in CALLS:
            calls = _calls(text_of(turn.get(text), where), where)
            message = {"role": "assistant", "content": None, "tool_calls": calls}
            messages.append(Message.from_openai(message))
        elif isinstance(speaker, str) and speaker in SHAREGPT_ROLES:
            messages.append(stripped(SHAREGPT_ROLES[speaker], turn.get(text), where))
        else:
            known = ", ".join((*SHAREGPT_ROLES, *CALLS))
            raise ValueError(f"turn {number}: 'from' is {speaker!r}, not one of {known}")
    return tuple(messages)


ROLE_CONTENT = ("role", "content")
"""Some collections name the fields of ShareGPT's turns so."""


def _calls(text: str, where: str) -> list[dict[str, Any]]:
    """The assistant's calls from the text ``{"name": …, "arguments": {…}}`` or a list of such."""
    value = _json(text, where)
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(
        isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls
    ):
        raise ValueError(f"{where} must be an object with 'name' and 'arguments'")
    return [_texted({"function": {"arguments": {}, **call}}) for call in calls]


def _alpaca(row: Mapping[str, Any], answer: Any, name: str) -> tuple[Message, ...]:
    return (*alpaca_prompt(row), stripped("assistant", answer, name))


def alpaca_prompt(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What Alpaca asks: ``system``, ``history``, ``instruction`` with its ``input``."""
    question = text_of(row["instruction"], "'instruction'")
    context = text_of(row.get("input") or "", "'input'")
    messages = []
    if row.get("system"):
        messages.append(stripped("system", row["system"], "'system'"))
    for number, pair in enumerate(_history(row.get("history")), 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"'history' {number} is not a pair of question and answer")
        messages += [
            stripped(role, text, f"'history' {number}")
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    asked = f"{question}\n\n{context}" if question and context else question or context
    return (*messages, stripped("user", asked, "'instruction'"))


def _history(value: Any) -> list[Any]:
    if isinstance(value, str) and value.strip():
        value = _json(value, "'history'")
    if value and not isinstance(value, list):
        raise ValueError("'history' must be a list of pairs")
    return value or []


def _self_instruct(row: Mapping[str, Any]) -> list[tuple[Message, ...]]:
    instances = row["instances"]
    if not isinstance(instances, list) or not all(isinstance(one, dict) for one in instances):
        raise ValueError("'instances' must be a list of objects")
    return [
        _alpaca({**row, "input": one.get("input")}, one.get("output"), "'output'")
        for one in instances
    ]


def stripped(role: str, value: Any, name: str) -> Message:
    """A message whose text is stripped: collections of these forms are careless about spaces."""
    return Message.from_openai({"role": role, "content": text_of(value, name)})


def text_of(value: Any, name: str) -> str:
    """The text of the field ``name`` without the white space around it."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value.strip()
