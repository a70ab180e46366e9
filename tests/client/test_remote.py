"""A model behind a URL: what is sent, what is understood, and every way it can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fledge.client.open import open_model
from fledge.client.remote import RemoteModel
from fledge.core.errors import FledgeError
from fledge.core.protocols import Sampling
from fledge.core.types import Message, ToolCall
from fledge.engine.errors import ContextLengthError

URL = "http://model.example/v1"
MESSAGES = [Message(role="user", content="桥？")]
ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


def remote(answer: Callable[[httpx.Request], httpx.Response]) -> RemoteModel:
    return RemoteModel(URL, "m", "key", transport=httpx.MockTransport(answer))


def events(*values: Any, done: bool = True) -> httpx.Response:
    lines = [f"data: {json.dumps(value)}\n\n" for value in values]
    return httpx.Response(200, text=": comment\n\n" + "".join(lines) + "data: [DONE]\n\n" * done)


def chunk(content: str | None, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content}, "finish_reason": finish}]}


def test_what_is_sent() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=ANSWER)

    model = remote(answer)
    plain = Sampling(max_new_tokens=5)
    full = Sampling(top_k=4, top_p=0.9, min_p=0.1, repetition_penalty=1.2, seed=0, stop=("x",))
    reply = model.chat(MESSAGES, plain)
    model.chat(MESSAGES, full)
    assert (reply.text, reply.finish_reason, reply.usage.prompt_tokens) == ("yes", "stop", 3)
    assert seen[0].url == URL + "/chat/completions"
    assert seen[0].headers["Authorization"] == "Bearer key"
    assert json.loads(seen[0].content) == {
        "model": "m",
        "messages": [{"role": "user", "content": "桥？"}],
        "max_tokens": 5,
        "temperature": 0.0,
    }
    extra = json.loads(seen[1].content)
    assert extra["seed"] == 0
    assert (extra["top_k"], extra["top_p"], extra["min_p"], extra["stop"]) == (4, 0.9, 0.1, ["x"])


def test_tool_calls_are_understood() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    reply = remote(lambda request: httpx.Response(200, json=body)).chat(MESSAGES, Sampling())
    assert reply.tool_calls == (ToolCall(id="1", name="f", arguments="{}"),)
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


def test_a_stream_is_put_together() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    response = events(chunk(""), chunk("yes "), chunk("桥"), chunk(None, "length"), usage)
    deltas = list(remote(lambda request: response).stream(MESSAGES, Sampling()))
    assert [delta.text for delta in deltas] == ["yes ", "桥", ""]
    reply = deltas[-1].reply
    assert reply is not None
    assert (reply.text, reply.finish_reason) == ("yes 桥", "length")
    assert reply.usage.completion_tokens == 2


class Chunked(httpx.SyncByteStream):
    """A body that arrives in pieces of ``size`` bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size

    def __iter__(self) -> Iterator[bytes]:
        yield from (self.data[at : at + self.size] for at in range(0, len(self.data), self.size))


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_a_newline_ends_an_event(size: int, end: str) -> None:
    said = "one\u2028two\u2029three\x85four\x0b\x0cfive 桥"
    lines = [json.dumps(value, ensure_ascii=False) for value in (chunk(said), chunk("", "stop"))]
    data = "".join(f"data: {line}{end}{end}" for line in [*lines, "[DONE]"]).encode()
    response = httpx.Response(200, stream=Chunked(data, size))
    deltas = list(remote(lambda request: response).stream(MESSAGES, Sampling()))
    assert "".join(delta.text for delta in deltas) == said


@pytest.mark.parametrize(
    ("error", "tokens", "context"),
    [
        (
            {
                "message": "131 tokens, 128",
                "code": "context_length_exceeded",
                "prompt_tokens": 131,
                "context_tokens": 128,
            },
            131,
            128,
        ),
        ({"message": "too long", "code": "context_length_exceeded"}, None, None),
        ({"message": "This model's maximum context length is 4097 tokens. …"}, None, 4097),
    ],
)
def test_a_conversation_that_is_too_long_is_an_error_of_its_own(
    error: dict[str, Any], tokens: int | None, context: int | None
) -> None:
    model = remote(lambda request: httpx.Response(400, json={"error": error}))
    with pytest.raises(ContextLengthError, match=re.escape(error["message"])) as whole:
        model.chat(MESSAGES, Sampling())
    with pytest.raises(ContextLengthError) as streamed:
        list(model.stream(MESSAGES, Sampling()))
    for refused in (whole.value, streamed.value):
        assert (refused.tokens, refused.context) == (tokens, context)


def test_another_400_is_no_matter_of_length() -> None:
    error = {"message": "bad", "code": "invalid_value"}
    model = remote(lambda request: httpx.Response(400, json={"error": error}))
    with pytest.raises(FledgeError, match="400: bad") as refused:
        model.chat(MESSAGES, Sampling())
    assert not isinstance(refused.value, ContextLengthError)


@pytest.mark.parametrize(("owner", "room"), [("fledge", 48), ("openai", None)])
def test_only_a_fledge_server_is_asked_to_leave_room(owner: str, room: int | None) -> None:
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "m", "owned_by": owner}]})
        seen.append(json.loads(request.content))
        return events(chunk("yes", "stop"))

    model = RemoteModel(URL, transport=httpx.MockTransport(answer))
    list(model.stream_in_room(MESSAGES, Sampling(), 48))
    list(model.stream(MESSAGES, Sampling()))
    assert [body.get("answer_room") for body in seen] == [room, None]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(401, json={"error": {"message": "bad key"}}), "401: bad key; give its API"),
        (httpx.Response(404, text="nothing"), "404: nothing; check the URL"),
        (httpx.Response(429, json={}, headers={"Retry-After": "7"}), "429.*wait 7 seconds"),
        (httpx.Response(500, json={"error": "boom"}), "500: boom"),
    ],
)
def test_http_errors_are_told_with_a_remedy(response: httpx.Response, message: str) -> None:
    model = remote(lambda request: response)
    with pytest.raises(FledgeError, match=message):
        model.chat(MESSAGES, Sampling())
    with pytest.raises(FledgeError, match=message):
        list(model.stream(MESSAGES, Sampling()))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(200, text="<html>"), "not in JSON"),
        (httpx.Response(200, json={"choices": []}), "another shape"),
        (httpx.Response(200, json=[]), "another shape"),
    ],
)
def test_answers_that_are_none(response: httpx.Response, message: str) -> None:
    with pytest.raises(FledgeError, match=message):
        remote(lambda request: response).chat(MESSAGES, Sampling())


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (events(chunk("half"), done=False), "broke off"),
        (events(chunk("half"), {"error": {"message": "out of memory"}}), "out of memory"),
        (events("text"), "another shape"),
        (httpx.Response(200, text="data: {half"), "not JSON"),
    ],
)
def test_streams_that_break(response: httpx.Response, message: str) -> None:
    with pytest.raises(FledgeError, match=message):
        list(remote(lambda request: response).stream(MESSAGES, Sampling()))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ConnectError("refused"), "cannot reach.*is the server running"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.RemoteProtocolError("garbage"), "broke: garbage"),
        (httpx.UnsupportedProtocol("what"), "not a URL"),
    ],
)
def test_network_trouble_is_one_line(error: Exception, message: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(FledgeError, match=message):
        remote(fail).chat(MESSAGES, Sampling())
    with pytest.raises(FledgeError, match=message):
        list(remote(fail).stream(MESSAGES, Sampling()))


def test_closing_a_stream_hangs_up() -> None:
    class Body(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield f"data: {json.dumps(chunk('x'))}\n\n".encode()

        def close(self) -> None:
            self.closed = True

    body = Body()
    stream = remote(lambda request: httpx.Response(200, stream=body)).stream(MESSAGES, Sampling())
    assert next(stream).text == "x"
    stream.close()  # type: ignore[attr-defined]
    assert body.closed


def test_the_name_comes_from_the_server_when_none_is_given() -> None:
    def models(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"id": "first"}, {"id": "second"}]})

    assert RemoteModel(URL, transport=httpx.MockTransport(models)).name == "first"
    empty = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": []}))
    with pytest.raises(FledgeError, match="lists no model"):
        RemoteModel(URL, transport=empty)
    with pytest.raises(FledgeError, match=r"cannot reach http://127\.0\.0\.1:9"):
        open_model("http://127.0.0.1:9/v1")
    with pytest.raises(FledgeError, match="cannot score"):
        remote(models).score(MESSAGES, "x")
