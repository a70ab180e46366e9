"""Rows of post-training data in; the faulty ones, what looks odd and the statistics out.

A fault is a row that cannot be read.  A warning is a row that can, and most likely is not meant so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fledge.core.files import value_digest
from fledge.core.types import Message
from fledge.data.chat_forms import Conversation
from fledge.data.examples import (
    Example,
    Kind,
    answers,
    asked,
    example_row,
    parse_examples,
    text_of_messages,
    wholes,
)
from fledge.data.json_rows import Row
from fledge.data.preference_forms import Preference
from fledge.data.row_statistics import RowStatistics

WARNINGS = {
    "same_answers": "chosen and rejected are identical",
    "empty_answer": "an answer is empty",
    "empty_question": "a user's message is empty",
    "no_last_answer": "the last message is not an answer",
    "roles": "roles are out of order",
    "long": "longer than {longest} {unit}",
    "template": "does not fit the chat template",
    "duplicate": "the same as an earlier row",
}
"""What is warned of, for people."""

Length = Callable[[Sequence[Message], Sequence[Any]], int | None]
"""Tokens of a conversation with its tools; None when the chat template refuses it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a row counts as very long, and how it is measured."""

    longest: int = 32_000
    """The most characters, or tokens where ``length`` is given."""

    length: Length | None = None

    @property
    def unit(self) -> str:
        """What ``longest`` counts."""
        return "tokens" if self.length is not None else "characters"


@dataclass(frozen=True, kw_only=True)
class Noticed:
    """Something about a row: ``what`` is a fault in words, or a key of ``WARNINGS``."""

    origin: str
    what: str


@dataclass(kw_only=True)
class Findings:
    """What a check found; the lists hold the first ones, the counts all."""

    kind: Kind
    rows: int = 0
    examples: int = 0
    """Rows may hold several (self-instruct), faulty ones hold none."""

    faults: list[Noticed] = field(default_factory=list)
    faulty: int = 0
    warnings: dict[str, list[Noticed]] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)
    statistics: RowStatistics = field(default_factory=RowStatistics)


def check_rows(rows: Iterable[Row], kind: Kind, limits: Limits, listed: int) -> Findings:
    """Everything about ``rows``, read as ``kind``; ``listed``: faults and warnings to remember."""
    found = Findings(kind=kind)
    seen: dict[str, str] = {}
    for row in rows:
        found.rows += 1
        try:
            if row.fault:
                raise ValueError(row.fault)
            examples = parse_examples(row.value, row.origin, kind)
        except ValueError as error:
            found.faulty += 1
            if len(found.faults) < listed:
                found.faults.append(Noticed(origin=row.origin, what=str(error)))
            continue
        for example in examples:
            _look_at(example, limits, seen, found, listed)
    return found


def _look_at(
    example: Example, limits: Limits, seen: dict[str, str], found: Findings, listed: int
) -> None:
    """Count one example, and note what is odd about it."""
    lengths = _lengths(example, limits)
    found.examples += 1
    found.statistics.add(example, max((n for n in lengths if n is not None), default=None))
    odd = [*oddities(example)]
    if any(length is not None and length > limits.longest for length in lengths):
        odd.append("long")
    if None in lengths:
        odd.append("template")
    key = value_digest(example_row(example))
    if seen.setdefault(key, example.origin) != example.origin:
        odd.append("duplicate")
    for what in odd:
        found.warned[what] = found.warned.get(what, 0) + 1
        first = found.warnings.setdefault(what, [])
        if len(first) < listed:
            first.append(Noticed(origin=example.origin, what=what))


def _lengths(example: Example, limits: Limits) -> list[int | None]:
    """The length of each conversation that is read of it, in the unit of the limits."""
    if limits.length is None:
        return [len(text_of_messages(whole)) for whole in wholes(example)]
    return [limits.length(whole, example.tools) for whole in wholes(example)]


def oddities(example: Example) -> Iterator[str]:
    """What is odd about one example by itself: keys of ``WARNINGS``."""
    if isinstance(example, Preference) and example.chosen == example.rejected:
        yield "same_answers"
    if any(_is_empty(answer[-1]) for answer in answers(example)):
        yield "empty_answer"
    if any(one.role == "user" and not one.content.strip() for one in asked(example)):
        yield "empty_question"
    if isinstance(example, Conversation) and example.messages[-1].role != "assistant":
        yield "no_last_answer"
    if any(roles_out_of_order(whole) for whole in wholes(example)):
        yield "roles"


def _is_empty(answer: Message) -> bool:
    return not answer.content.strip() and not answer.tool_calls


MAY_FOLLOW = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "calls": ("tool",),
    "tool": ("tool", "assistant"),
}
"""Role (``calls``: an assistant that calls tools) -> roles that may come next."""


def roles_out_of_order(messages: Sequence[Message]) -> bool:
    """Whether somebody speaks out of turn: twice in a row, or a tool that was not called."""
    before = ""
    for message in messages:
        if message.role not in MAY_FOLLOW[before]:
            return True
        before = "calls" if message.tool_calls else message.role
    return False
