"""OpenAI tool definitions in, the grammar of an answer with well-formed calls out.

A call is written as the chat template writes it:
``<tool_call>{"name": "...", "arguments": {...}}</tool_call>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.engine.grammar import Grammar, Grammars, as_json
from fledge.tokenizer.tokenizer import Tokenizer

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def tool_calls(
    grammars: Grammars,
    tools: Sequence[Mapping[str, Any]],
    *,
    choice: Literal["auto", "required"] | str = "auto",
    parallel: bool = True,
) -> Grammar:
    """Answers with calls of ``tools``, in the form of the OpenAI API.

    ``choice``: "auto" is text, calls or both; "required" at least one call and no text; else
    the name of the tool to call.  ``parallel``: more than one call may follow another.  A
    tool's arguments are those it names, unless its schema says otherwise.

    Raises InputError naming the tool whose definition is wrong.
    """
    schemas = _schemas(tools)
    if choice not in ("auto", "required"):
        if choice not in schemas:
            raise InputError(f"tool_choice names {choice!r}", remedy=nearest(choice, list(schemas)))
        schemas = {choice: schemas[choice]}
    for name, schema in schemas.items():
        try:
            grammars.json_schema(schema)
        except InputError as error:
            raise InputError(f"tool {name!r}: {error.message}", remedy=error.remedy) from None
    return grammars.lark(_lark(grammars.tokenizer, schemas, choice == "auto", parallel))


def _schemas(tools: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schema of each tool's arguments, by its name."""
    schemas: dict[str, dict[str, Any]] = {}
    for place, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not name:
            raise InputError(
                f"tools[{place}] has no function with a name",
                remedy='write {"type": "function", "function": {"name": ..., "parameters": ...}}',
            )
        if name in schemas:
            raise InputError(f"two tools have the name {name!r}", remedy="rename one")
        parameters = function.get("parameters") or {}  # type: ignore[union-attr]
        if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
            raise InputError(
                f"tool {name!r}: parameters is no schema of an object",
                remedy='write {"type": "object", "properties": {...}}',
            )
        schemas[name] = {"type": "object", "additionalProperties": False, **parameters}
    if not schemas:
        raise InputError("tools is empty", remedy="name at least one, or leave tools out")
    return schemas


def _lark(
    tokenizer: Tokenizer, schemas: Mapping[str, Mapping[str, Any]], text: bool, parallel: bool
) -> str:
    """The grammar in llguidance's Lark."""
    calls = ("call*" if parallel else "call?") if text else ("call+" if parallel else "call")
    thinks = text and _is_special(tokenizer, "<think>") and _is_special(tokenizer, "</think>")
    lines = ["start: " + "think? " * thinks + "TEXT? " * text + calls]
    if thinks:
        lines.append("think: <think> TEXT? </think>")
    if text:  # a call must not be written in plain characters, past its grammar
        lines.append(r"TEXT: /(.|\n)+/ & ~/(.|\n)*<tool_call>(.|\n)*/")
    lines.append(f"call: {_mark(tokenizer, OPEN)} body {_mark(tokenizer, CLOSE)}")
    lines.append("body: " + " | ".join(f"body_{place}" for place in range(len(schemas))))
    for place, (name, schema) in enumerate(schemas.items()):
        head = json.dumps(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": ')
        lines.append(f'body_{place}: {head} arguments_{place} "}}"')
        lines.append(f"arguments_{place}: %json {as_json(schema)}")
    return "\n".join(lines)


def _mark(tokenizer: Tokenizer, mark: str) -> str:
    """A mark of the template: its special token where the tokenizer has one, else its text."""
    return mark if _is_special(tokenizer, mark) else json.dumps(mark)


def _is_special(tokenizer: Tokenizer, token: str) -> bool:
    return tokenizer.has_token(token) and tokenizer.is_special(tokenizer.token_id(token))
