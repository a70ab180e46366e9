"""What is written in another form reads back the same; what a form cannot hold is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.types import Message
from fledge.data.chat_forms import Conversation, parse_conversation
from fledge.data.converting import Form, rows_in_form
from fledge.data.preference_forms import Judged, Preference, parse_judged

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).map(str.strip)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=3)


def says(role: Any, text: str) -> Message:
    return Message(role=role, content=text)


@given(system=words, turns=pairs, form=st.sampled_from(["messages", "sharegpt", "alpaca"]))
@settings(max_examples=150, deadline=None)
def test_dialogues_return_from_every_form(
    system: str, turns: list[tuple[str, str]], form: Form
) -> None:
    messages = [says("system", system)] if system else []
    for question, answer in turns:
        messages += [says("user", question), says("assistant", answer)]
    [row] = rows_in_form(Conversation(messages=tuple(messages)), form)
    read = parse_conversation(json.loads(json.dumps(row)))
    assert read.messages == tuple(messages)


def test_calls_and_tools_return_from_sharegpt() -> None:
    messages = [
        {"role": "user", "content": "1 + 1?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "sum", "arguments": '{"a": 1}'}}] * 2,
        },
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2."},
    ]
    tools = [{"type": "function", "function": {"name": "sum"}}]
    one = parse_conversation({"messages": messages, "tools": tools})
    [row] = rows_in_form(one, "sharegpt")
    assert row["conversations"][1]["from"] == "function_call"
    assert parse_conversation(row) == one


ASKED, GOOD, BAD = (says("user", "q"),), (says("assistant", "a"),), (says("assistant", "b"),)
PAIR = Preference(prompt=ASKED, chosen=GOOD, rejected=BAD, margin=1.0)
DIALOGUE = Conversation(messages=(*ASKED, *GOOD))


def test_a_pair_is_two_judgements_or_its_better_answer() -> None:
    judged = [parse_judged(row) for row in rows_in_form(PAIR, "judged")]
    assert [(one.completion, one.good) for one in judged] == [(GOOD, True), (BAD, False)]
    [row] = rows_in_form(PAIR, "messages", best=True)
    assert parse_conversation(row) == DIALOGUE
    assert rows_in_form(Judged(prompt=ASKED, completion=BAD, good=False), "alpaca", best=True) == []


@pytest.mark.parametrize(
    ("example", "form", "message"),
    [
        (DIALOGUE, "preference", "a rejected answer is missing"),
        (DIALOGUE, "judged", "says nothing of whether its answer is good"),
        (PAIR, "messages", "the form messages cannot hold two answers"),
        (Judged(prompt=ASKED, completion=GOOD, good=True), "alpaca", "whether the answer is good"),
        (Judged(prompt=ASKED, completion=GOOD, good=True), "preference", "only pairs"),
        (Conversation(messages=(*ASKED, *ASKED, *GOOD)), "alpaca", "not user, user, assistant"),
        (Conversation(messages=ASKED), "alpaca", "questions and answers in turn"),
        (Conversation(messages=DIALOGUE.messages, tools=({"name": "f"},)), "alpaca", "tools"),
        (
            Conversation(messages=DIALOGUE.messages, untaught=frozenset([1])),
            "sharegpt",
            "message 2 is not to be learnt",
        ),
    ],
)
def test_what_a_form_cannot_hold_is_refused(example: Any, form: Form, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows_in_form(example, form)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [("Let me see.", "{}", "text beside a call"), ("", "{", "arguments of f are not JSON")],
)
def test_sharegpt_holds_only_plain_calls(text: str, arguments: str, message: str) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    turn = {"role": "assistant", "content": text, "tool_calls": [call]}
    one = parse_conversation({"messages": [{"role": "user", "content": "q"}, turn]})
    with pytest.raises(ValueError, match=message):
        rows_in_form(one, "sharegpt")
