"""Conversations: JSONL in OpenAI, Alpaca or ShareGPT form in; token ids and a loss mask out.

{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
{"instruction": "…", "input": "…", "output": "…"}
{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.tokenizer.tokenizer import Tokenizer

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "observation": "tool",
}


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A dialogue to learn from.  ``origin`` names its file and line."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as the model reads it.

    ``mask[i]`` says whether the model is taught to write ``ids[i]``: true for what an assistant
    says and for the <|im_end|> that ends its turn, false for all else.  ``turns`` are the lengths
    at which the conversation may be cut: the ends of the assistant's turns.
    """

    ids: list[int]
    mask: list[bool]
    turns: list[int]


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a JSONL file; raises InputError naming file, line and field."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read_line(line, f"{path}:{number}")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            f"conversations {path} is not a file", remedy="name a JSONL file"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", remedy="re-encode the file") from None


def _read_line(line: str, origin: str) -> Conversation:
    try:
        return parse_conversation(json.loads(line), origin)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}: not JSON: {error.msg}", remedy="mend that line") from None
    except ValueError as error:
        raise InputError(f"{origin}: {error}", remedy="mend that line") from None


def parse_conversation(row: Any, origin: str = "") -> Conversation:
    """A conversation from any of the three forms; raises ValueError saying what is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a conversation must be a JSON object")
    if "messages" in row:
        messages = _openai(row["messages"])
    elif "conversations" in row:
        messages = _sharegpt(row["conversations"], row.get("system"))
    elif "instruction" in row and "output" in row:
        messages = _alpaca(row)
    else:
        raise ValueError(
            "expected 'messages' (OpenAI), 'conversations' (ShareGPT) or "
            f"'instruction' and 'output' (Alpaca), found {', '.join(row) or 'nothing'}"
        )
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("no message is the assistant's, so there is nothing to learn")
    return Conversation(messages=messages, tools=_tools(row.get("tools")), origin=origin)


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The ``tools`` of a row: a list, or the JSON text of one as some collections have it."""
    tools = _json(value, "'tools'") if isinstance(value, str) and value.strip() else value or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("'tools' must be a list of objects")
    return tuple(tools)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error.msg}") from None


def _openai(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("'messages' must be a list with at least one message")
    messages = []
    for number, message in enumerate(value, 1):
        try:
            messages.append(Message.from_openai(message))
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
    return tuple(messages)


def _sharegpt(value: Any, system: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("'conversations' must be a list with at least one turn")
    messages = []
    if isinstance(system, str) and system.strip():
        messages.append(Message(role="system", content=system.strip()))
    for number, turn in enumerate(value, 1):
        where = f"turn {number}: 'value'"
        name = turn.get("from") if isinstance(turn, dict) else None
        if name == "function_call":
            messages.append(_function_call(turn.get("value"), where))
        elif name in SHAREGPT_ROLES:
            messages.append(_message(SHAREGPT_ROLES[name], turn.get("value"), where))
        else:
            known = ", ".join((*SHAREGPT_ROLES, "function_call"))
            raise ValueError(f"turn {number}: 'from' is {name!r}, not one of {known}")
    return tuple(messages)


def _function_call(value: Any, where: str) -> Message:
    """The assistant's call in ShareGPT form: the text ``{"name": …, "arguments": {…}}``."""
    call = _json(_text(value, where), where)
    if not isinstance(call, dict) or "name" not in call:
        raise ValueError(f"{where} must be an object with 'name' and 'arguments'")
    arguments = json.dumps(call.get("arguments", {}), ensure_ascii=False)
    function = {"name": call["name"], "arguments": arguments}
    return Message.from_openai(
        {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}
    )


def _alpaca(row: Mapping[str, Any]) -> tuple[Message, ...]:
    question = _text(row["instruction"], "'instruction'")
    context = _text(row.get("input") or "", "'input'")
    messages = [
        _message("user", f"{question}\n\n{context}" if context else question, "'instruction'"),
        _message("assistant", row["output"], "'output'"),
    ]
    if row.get("system"):
        messages.insert(0, _message("system", row["system"], "'system'"))
    return tuple(messages)


def _message(role: str, value: Any, name: str) -> Message:
    """A message whose text is stripped: collections of these forms are careless about spaces."""
    return Message.from_openai({"role": role, "content": _text(value, name)})


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value.strip()


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] = (),
    origin: str = "conversation",
) -> Rendered:
    """The conversation's ids by the chat template, and which of them are to be learnt.

    Each answer is encoded apart from its prompt, as the engine meets them: the prompt ends in the
    opening of an assistant's turn, what follows is written by the model up to <|im_end|>.
    What comes after the last answer is left out.  Raises InputError when the chat template does
    not add up turn by turn.
    """
    openai = [message.to_openai() for message in messages]
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[int] = []
    seen: list[int] = []  # the template's ids up to the last answer's end
    for number, message in enumerate(messages):
        if message.role != "assistant":
            continue
        prompt = tokenizer.encode_chat(openai[:number], tools or None, add_generation_prompt=True)
        if prompt[: len(seen)] != seen:
            raise InputError(
                f"{origin}: the chat template writes earlier turns anew at message {number + 1}",
                remedy="use a template that only appends",
            )
        between = prompt[len(seen) :]
        seen = _through_end(tokenizer, openai[: number + 1], tools, origin)
        answer = _answer(seen, prompt, openai[number], tokenizer, origin)
        ids += between + answer
        mask += [False] * len(between) + [True] * len(answer)
        turns.append(len(ids))
    return Rendered(ids=ids, mask=mask, turns=turns)


def _through_end(
    tokenizer: Tokenizer,
    openai: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    origin: str,
) -> list[int]:
    """The template's ids of a conversation up to the <|im_end|> of its last message."""
    whole = tokenizer.encode_chat(openai, tools or None)
    if tokenizer.im_end_id not in whole[-4:]:
        raise InputError(
            f"{origin}: the chat template does not end message {len(openai)} with <|im_end|>",
            remedy="use a ChatML template",
        )
    return whole[: len(whole) - whole[::-1].index(tokenizer.im_end_id)]


def _answer(
    seen: list[int],
    prompt: list[int],
    message: Mapping[str, Any],
    tokenizer: Tokenizer,
    origin: str,
) -> list[int]:
    """Ids of what the assistant writes, <|im_end|> included: what ``seen`` adds to ``prompt``."""
    if seen[: len(prompt)] == prompt:
        return seen[len(prompt) :]
    if message.get("tool_calls"):
        raise InputError(
            f"{origin}: an answer with tool calls begins with white space", remedy="strip it"
        )
    # White space at the start of the answer merged with the line break that ends the prompt.
    return [*tokenizer.encode(message["content"]), tokenizer.im_end_id]
