"""A row of post-training data in; an example out, whichever kind it is: to learn, pair, judgement.

sft          a conversation whose answers are learnt
preference   two answers to a prompt, one of them better
judged       one answer to a prompt, good or bad
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.chat_forms import Conversation, parse_conversations
from fledge.data.json_rows import read_parsed, read_rows
from fledge.data.preference_forms import (
    Judged,
    Preference,
    is_judged,
    is_preference,
    parse_judged,
    parse_preference,
)
from fledge.data.preferences import conversation_row, judged_row, preference_row

Kind = Literal["sft", "preference", "judged"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Example = Conversation | Preference | Judged


def kind_of(row: Any) -> Kind:
    """The kind that a row's fields speak for; what is no pair and has no label is to be learnt."""
    if is_preference(row):
        return "preference"
    return "judged" if is_judged(row) else "sft"


def kind_of_file(path: Path) -> Kind:
    """The kind of a file's first row that is an object; raises InputError when there is none."""
    for row in read_rows(path, "rows"):
        if isinstance(row.value, dict):
            return kind_of(row.value)
    raise InputError(f"{path} holds no JSON object", remedy="name a JSONL file of objects")


def kind_of_files(paths: Sequence[Path]) -> Kind:
    """The one kind of several files; raises InputError when they differ."""
    kinds = {path: kind_of_file(path) for path in paths}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{path} is {kind}" for path, kind in kinds.items())
        raise InputError(f"files of several kinds: {told}", remedy="take them one by one")
    return kinds[paths[0]]


def parse_examples(row: Any, origin: str, kind: Kind) -> list[Example]:
    """The examples of a row of ``kind``; raises ValueError naming the field that is wrong."""
    if kind == "preference":
        return [parse_preference(row, origin)]
    if kind == "judged":
        return [parse_judged(row, origin)]
    return [*parse_conversations(row, origin)]


def read_examples(path: Path, kind: Kind) -> Iterator[Example]:
    """The examples of a file of ``kind``; raises InputError naming file, line and field."""
    return read_parsed(path, "rows", lambda row, origin: parse_examples(row, origin, kind))


def example_row(example: Example) -> dict[str, Any]:
    """The example in the form that fledge writes."""
    if isinstance(example, Preference):
        return preference_row(example)
    return judged_row(example) if isinstance(example, Judged) else conversation_row(example)


def asked(example: Example) -> tuple[Message, ...]:
    """The prompt; of a conversation all before its last answer."""
    if not isinstance(example, Conversation):
        return example.prompt
    messages = example.messages
    return messages[:-1] if messages[-1].role == "assistant" else messages


def answers(example: Example) -> tuple[tuple[Message, ...], ...]:
    """The answers to it: chosen and rejected, the judged one, a conversation's last one if any."""
    if isinstance(example, Preference):
        return (example.chosen, example.rejected)
    if isinstance(example, Judged):
        return (example.completion,)
    last = example.messages[-1]
    return ((last,),) if last.role == "assistant" else ()


def wholes(example: Example) -> list[tuple[Message, ...]]:
    """The conversations that a model reads of it, each from the beginning: one an answer."""
    return [(*asked(example), *answer) for answer in answers(example) or ((),)]


def text_of_messages(messages: Sequence[Message]) -> str:
    """What is said, with the names and arguments of calls, one message after another."""
    parts = []
    for message in messages:
        if message.content:
            parts.append(message.content)
        parts += [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join(parts)
