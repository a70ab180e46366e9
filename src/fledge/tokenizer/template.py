"""The chat template: ChatML with tool calls, as the Jinja text that travels with the model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fledge.core.errors import InputError

ENDOFTEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = (
    ENDOFTEXT,
    IM_START,
    IM_END,
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""In order of their ids, from 0."""

CHAT_TEMPLATE = """\
{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}
{%- if system or tools %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
{{- ('\\n\\n' if system else '') + 'Tools, one JSON object a line:' }}
{%- for tool in tools %}
{{- '\\n' + (tool | tojson) }}
{%- endfor %}
{{- '\\nTo call one, write <tool_call>{\\"name\\": ..., \\"arguments\\": {...}}</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>' + message.content + '</tool_response><|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{%- set function = call.function if call.function else call %}
{%- set arguments = function.arguments %}
{{- '<tool_call>{\\"name\\": ' + (function.name | tojson) + ', \\"arguments\\": ' }}
{{- (arguments if arguments is string else arguments | tojson) + '}</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif not (message.role == 'system' and loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""The tag with which templates mark what the assistant writes."""

MARKS = ("\ue002", "\ue003")
"""Private-use characters around what the assistant writes, when a template marks it."""


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}``: its content, between ``MARKS`` when asked."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 reads this attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marked = self.call_method("_marked", [nodes.Name("mark_answers", "load")])
        return nodes.CallBlock(marked, [], [], body).set_lineno(line)

    def _marked(self, mark: bool, caller: Callable[[], str]) -> str:
        return MARKS[0] + caller() + MARKS[1] if mark is True else caller()


class Arguments(dict[str, Any]):
    """Arguments of a call, which templates take for an object or add to a text as JSON."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return other + str(self)


def _with_objects(source: str, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose calls hold arguments as objects, as other houses' templates expect."""
    if "arguments is string" in source:
        return [dict(message) for message in messages]  # the template takes both
    return [
        {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else dict(message)
        for message in messages
    ]


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            function["arguments"] = Arguments(parsed)
    return {**call, "function": function}


@lru_cache(maxsize=16)
def _compile(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        # Other houses' templates use break and continue, and mark answers.
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(source)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter with the options that transformers gives it."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> None:
    """What templates of other houses call when a conversation does not fit them."""
    raise ValueError(message)


def render(
    source: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    mark_answers: bool = False,
    **specials: str,
) -> str:
    """The conversation as text; ``specials`` are the names templates use (``eos_token``, ...).

    ``mark_answers`` puts ``MARKS`` around what the template says the assistant writes.

    Raises InputError when the template refuses the conversation or cannot be read.
    """
    try:
        return _compile(source).render(
            messages=_with_objects(source, messages),
            tools=tools or None,
            add_generation_prompt=add_generation_prompt,
            mark_answers=mark_answers,
            **specials,
        )
    except (TemplateError, ValueError, TypeError) as error:
        # TypeError: the template adds up what this conversation leaves undefined or null.
        raise InputError(
            f"the model's chat template refuses this conversation: {error}",
            remedy="some take no system prompt, or only user and assistant in turn",
        ) from None
