"""Rows in; tasks for people out: answers to rank, or an answer to write.

A row                                                        becomes a task
{"prompt": "…" or [messages], "answers": ["…", …]}           to rank these answers
{"messages": [messages]}, {"prompt": …}                      to write the answer
a preference pair, in any form that ``fledge data`` reads    to rank its two answers
conversations that ask the same and answer otherwise         to rank their last answers
a conversation or judged answer that stands alone            to write another answer
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.types import Message, content_hash
from fledge.data.chat_forms import alpaca_prompt, openai_messages, stripped, tools_of
from fledge.data.examples import answers as answers_of
from fledge.data.examples import asked, kind_of, parse_examples, text_of_messages
from fledge.data.json_rows import read_parsed

Messages = tuple[Message, ...]

MOST_ANSWERS = 9
"""Answers that a task may have: each is chosen by a key."""

ANSWERED = frozenset(
    {"messages", "conversations", "chosen", "chosen_messages", "response_chosen", "completion"}
    | {"response", "output", "instances"}
)
"""Fields by one of which a row is an example of ``fledge data``."""


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """A prompt, and the answers that are to be ranked; without any, one is to be written."""

    prompt: Messages
    answers: tuple[Messages, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""

    @cached_property
    def key(self) -> str:
        """Names the task by what it asks: equal tasks of several files are one."""
        return content_hash("\x1e".join([_said(self.prompt), *sorted(self.by_id)]))

    @cached_property
    def by_id(self) -> dict[str, Messages]:
        """The answers by ids that tell nothing about their places."""
        return {content_hash(_said(answer)): answer for answer in self.answers}

    @property
    def kind(self) -> str:
        """``rank`` or ``write``."""
        return "rank" if self.answers else "write"

    def shown_to(self, annotator: str, seed: int) -> list[str]:
        """Ids of the answers, shuffled: their places tell nothing, and stay for one annotator."""
        ids = sorted(self.by_id)
        random.Random(f"label/{seed}/{annotator}/{self.key}").shuffle(ids)
        return ids


def _said(messages: Messages) -> str:
    return "\x1f".join(f"{one.role}\x1d{text_of_messages([one])}" for one in messages)


def read_tasks(paths: Iterable[Path]) -> list[LabelTask]:
    """The tasks of files, each once; raises InputError naming file, line and field."""
    return gathered(task for path in paths for task in read_parsed(path, "tasks", parse_tasks))


def parse_tasks(row: Any, origin: str = "") -> Iterator[LabelTask]:
    """The tasks of a row in any form; one with a single answer waits for others (``gathered``)."""
    if not isinstance(row, dict):
        raise ValueError("a task must be a JSON object")
    if "answers" in row or ANSWERED.isdisjoint(row):
        yield _checked(_plain(row, origin))
        return
    for example in parse_examples(row, origin, kind_of(row)):
        answers, tools = answers_of(example), example.tools
        yield _checked(
            LabelTask(prompt=asked(example), answers=answers, tools=tools, origin=origin)
        )


def gathered(tasks: Iterable[LabelTask]) -> list[LabelTask]:
    """Each task once, in order; single answers to one prompt become one task to rank.

    A single answer to which there is no other is left out: one is to be written.
    """
    whole: dict[str, LabelTask] = {}
    singles: dict[str, list[LabelTask]] = {}
    for task in tasks:
        if len(task.answers) == 1:
            alone = replace(task, answers=())
            whole.setdefault(f"one {alone.key}", alone)
            singles.setdefault(alone.key, []).append(task)
        else:
            whole.setdefault(task.key, task)
    for key, found in singles.items():
        answers = {id_: answer for one in found for id_, answer in one.by_id.items()}
        if len(answers) > 1:
            first = whole[f"one {key}"]
            try:
                whole[f"one {key}"] = _few(replace(first, answers=tuple(answers.values())))
            except ValueError as error:
                raise InputError(
                    f"{first.origin}: with the rows that ask the same, {error}",
                    remedy="name fewer files",
                ) from None
    return list({task.key: task for task in whole.values()}.values())


def _plain(row: Mapping[str, Any], origin: str) -> LabelTask:
    """The task of a row with ``answers``, or with nothing but a prompt."""
    given = row.get("answers") or []
    if not isinstance(given, list) or len(given) == 1:
        raise ValueError("'answers' must be a list of two or more, or of none")
    answers = tuple(_answer(one, f"'answers' {n}") for n, one in enumerate(given, 1))
    return LabelTask(
        prompt=_prompt(row), answers=answers, tools=tools_of(row.get("tools")), origin=origin
    )


def _prompt(row: Mapping[str, Any]) -> Messages:
    for name in ("messages", "prompt"):
        if isinstance(row.get(name), list):
            return openai_messages(row[name], f"'{name}'")[0]
    for name in ("prompt", "instruction"):
        if name in row:
            return alpaca_prompt({**row, "instruction": row[name]})
    raise ValueError(f"expected 'prompt' or 'messages', found {', '.join(row) or 'nothing'}")


def _answer(value: Any, name: str) -> Messages:
    if isinstance(value, str):
        return (stripped("assistant", value, name),)
    messages = openai_messages([value] if isinstance(value, dict) else value, name)[0]
    if messages[0].role != "assistant" or messages[-1].role != "assistant":
        raise ValueError(f"{name} must begin and end with the assistant")
    return messages


def _checked(task: LabelTask) -> LabelTask:
    """The task with each answer once; raises ValueError for one that nobody could do."""
    if not task.prompt or task.prompt[-1].role == "assistant":
        raise ValueError("the prompt must end with what is to be answered")
    if not text_of_messages(task.prompt).strip():
        raise ValueError("the prompt is empty")
    answers = tuple(task.by_id.values())
    if len(task.answers) > 1 == len(answers):
        raise ValueError(
            "the answers are the same: there is nothing to rank (fledge data clean drops such)"
        )
    return _few(replace(task, answers=answers))


def _few(task: LabelTask) -> LabelTask:
    if len(task.answers) > MOST_ANSWERS:
        raise ValueError(f"{len(task.answers)} answers are more than {MOST_ANSWERS}")
    return task


def task_row(task: LabelTask) -> dict[str, Any]:
    """The task as ``read_tasks`` reads it again."""
    row: dict[str, Any] = {
        "prompt": [message.to_openai() for message in task.prompt],
        "answers": [[message.to_openai() for message in answer] for answer in task.answers],
    }
    return {**row, "tools": [dict(tool) for tool in task.tools]} if task.tools else row
