"""Spans quote exactly; messages survive the OpenAI form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.core import Document, Message, Span, ToolCall


@given(st.text(), st.data())
def test_a_span_quotes_exactly_its_code_points(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    document = Document(id="d", text=text)
    assert Span.of(document, start, end).quote(document) == text[start:end]


def test_a_span_refuses_another_version_and_places_outside() -> None:
    document = Document(id="d", text="The bridge opened in 1937.")
    span = Span.of(document, 4, 10)
    with pytest.raises(ValueError, match="not the version"):
        span.quote(Document(id="d", text="The bridge opened in 1938."))
    with pytest.raises(ValueError, match="outside"):
        Span.of(document, 4, 99)


def test_message_round_trip_with_tool_call() -> None:
    call = ToolCall(id="1", name="add", arguments='{"a": 1}')
    message = Message(role="assistant", content="", tool_calls=(call,))
    assert Message.from_openai(message.to_openai()) == message
    assert Message.from_openai({"role": "user", "content": [{"type": "text", "text": "桥"}]}) == (
        Message(role="user", content="桥")
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("hi", "object"),
        ({"role": "robot", "content": ""}, "robot"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "content"),
        ({"role": "assistant", "content": None}, "content"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "tool call"),
    ],
)
def test_bad_messages_are_named(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Message.from_openai(value)
