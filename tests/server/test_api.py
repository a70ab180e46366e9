"""The API as one client sees it: the openai package, raw HTTP, and hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from api_client import HELLO, chat_body, client, post

from fledge.client.echo import Echo
from fledge.client.open import open_model
from fledge.client.remote import RemoteModel
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from pico_model import CONTEXT, write_pico_model

# --- the openai client ---------------------------------------------------------------------


def test_openai_client_whole_and_streamed_agree(pico: Any, local: ChatModel) -> None:
    with client(pico) as api:
        assert [model.id for model in api.models.list()] == ["pico-sft"]
        assert api.models.retrieve("pico-sft").owned_by == "fledge"
        whole = api.chat.completions.create(
            model="pico-sft", messages=HELLO, max_completion_tokens=20, seed=3, temperature=0.9
        )
        stream = api.chat.completions.create(
            model="pico-sft",
            messages=HELLO,
            max_tokens=20,
            seed=3,
            temperature=0.9,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 20
    sampling = Sampling(max_new_tokens=20, seed=3, temperature=0.9)
    reply = local.chat([Message.from_openai(HELLO[0])], sampling)
    assert (reply.text, reply.usage.prompt_tokens) == (text, whole.usage.prompt_tokens)


def test_openai_client_parts_stop_and_extras(echo: Any) -> None:
    with client(echo) as api:
        reply = api.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": [{"type": "text", "text": "one two three"}]}],
            stop=[" three"],
            user="me",
            metadata={"a": "b"},
            store=False,
            n=1,
            logprobs=False,
            extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
        )
        assert reply.choices[0].message.content == "one two"
        assert reply.choices[0].finish_reason == "stop"
        chunks = list(api.chat.completions.create(model="echo", messages=HELLO, stream=True))
        assert all(chunk.usage is None for chunk in chunks)


def test_openai_client_completions(pico: Any) -> None:
    with client(pico) as api:
        whole = api.completions.create(model="pico-sft", prompt="The Golden", max_tokens=9)
        chunks = list(
            api.completions.create(model="pico-sft", prompt="The Golden", max_tokens=9, stream=True)
        )
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 9
    assert chunks[-1].choices[0].finish_reason == "length"


def test_openai_client_understands_the_errors(pico: Any, start: Any) -> None:
    with client(pico) as api:
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'") as missing:
            api.chat.completions.create(model="gpt", messages=HELLO)
        assert missing.value.code == "model_not_found"
        long: Any = [{"role": "user", "content": "bridge " * 200}]
        for stream in (True, False):
            with pytest.raises(openai.BadRequestError, match=rf"tokens.*{CONTEXT}") as refused:
                api.chat.completions.create(model="pico-sft", messages=long, stream=stream)
            assert refused.value.code == "context_length_exceeded"
            assert refused.value.param == "messages"
        with pytest.raises(openai.BadRequestError) as refused:
            api.completions.create(model="pico-sft", prompt="bridge " * 200)
        assert refused.value.code == "context_length_exceeded"
        assert refused.value.param == "prompt"
    locked = start(Echo(), api_keys=("right", "other"))
    with client(locked, "wrong") as api, pytest.raises(openai.AuthenticationError):
        api.models.list()
    with client(locked, "other") as api:
        assert api.models.list().data[0].id == "echo"


@pytest.mark.parametrize("proxied", [False, True])
def test_a_conversation_without_room_for_the_answer_is_refused_when_asked(
    pico: Any, start: Any, proxied: bool
) -> None:
    running = start(RemoteModel(f"{pico.url}/v1")) if proxied else pico
    content = "bridge"
    body: dict[str, Any] = {"model": "pico-sft", "max_tokens": 1}
    for _ in range(CONTEXT):
        asked = body | {"messages": [{"role": "user", "content": content}]}
        tokens = post(running, asked).json()["usage"]["prompt_tokens"]
        if CONTEXT - tokens < 30:
            break
        content += " bridge"
    more = asked | {"answer_room": 30}
    assert post(running, more).status_code == 200, "one token was asked for, and there is room"
    for stream in (False, True):
        refused = post(running, more | {"max_tokens": 200, "stream": stream})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert (error["prompt_tokens"], error["context_tokens"]) == (tokens, CONTEXT)
        assert str(tokens) in error["message"]
        assert str(CONTEXT) in error["message"]
    fits = post(running, more | {"max_tokens": 200, "answer_room": CONTEXT - tokens})
    assert fits.status_code == 200
    assert post(running, asked | {"max_tokens": 200}).status_code == 200


def test_events_are_ascii(start: Any) -> None:
    said = "one\u2028two\u2029three\x85桥"
    running = start(Echo([said, said]))
    response = post(running, chat_body(stream=True))
    assert response.content.isascii()
    with client(running) as api:
        chunks = list(api.chat.completions.create(model="echo", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said


def test_a_conversation_that_the_template_refuses_is_400(start: Any, tmp_path: Path) -> None:
    stage = write_pico_model(tmp_path / "pico")
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    (stage / "model" / "chat_template.jinja").write_text(template)
    running = start(open_model(str(stage)))
    system = {"role": "system", "content": "Be brief."}
    for stream in (True, False):
        body = {"model": "pico-sft", "messages": [system, *HELLO], "stream": stream}
        refused = post(running, body)
        assert refused.status_code == 400
        assert "no system" in refused.json()["error"]["message"]
        assert post(running, body | {"messages": HELLO, "max_tokens": 2}).status_code == 200


# --- requests that are wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"tools": ["span"]}, "tools"),
        ({"tools": [{}], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"store": True}, "store"),
        ({"response_format": {"type": "poem"}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ({"response_format": {"type": ["text"]}}, "response_format"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"prompt_lookup": 65}, "prompt_lookup"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_tokens": 10, "max_completion_tokens": 11}, "max_tokens"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 10**400}, "seed"),
        ({"seed": -(10**400)}, "seed"),
        ({"top_k": 10**400}, "top_k"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"max_completion_tokens": 10**400}, "max_completion_tokens"),
        ({"answer_room": 10**400}, "answer_room"),
        ({"answer_room": -1}, "answer_room"),
        ({"temperature": 10**400}, "temperature"),
        ({"n": 10**400}, "n"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0]"),
        ({"messages": [*HELLO, {"role": "user", "content": 5}]}, "messages[1]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "x", "audio": {"id": 1}}]}, "messages[0].audio"),
        ({"messages": None}, "messages"),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
    ],
)
def test_a_wrong_field_is_refused_by_name(echo: Any, more: dict[str, Any], param: str) -> None:
    response = post(echo, chat_body(**more))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param.partition(".")[0] in error["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": None, "max_tokens": None, "stop": None, "tools": None, "seed": None},
        {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0.0},
        {"messages": [{"role": "user", "content": "x", "refusal": None, "annotations": []}]},
        {"top_k": 2**53, "seed": 2**53, "max_tokens": 2**53, "temperature": 1e-300},
        {"tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "seed": -1},
    ],
)
def test_what_changes_nothing_is_accepted(echo: Any, more: dict[str, Any]) -> None:
    response = post(echo, chat_body(**more))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"\xff\xfe",
        b'{"model": "echo", "messages": [], "temperature": NaN}',
        b"[" * 100_000,
        b'{"model": "echo", "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_a_body_that_is_no_request_is_400(echo: Any, content: bytes) -> None:
    response = httpx.post(echo.url + "/v1/chat/completions", content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/web/app.js", 404),
        ("GET", "/v1/models/other", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/", 405),
    ],
)
def test_wrong_paths_and_methods_have_the_same_shape(
    echo: Any, method: str, path: str, status: int
) -> None:
    response = httpx.request(method, echo.url + path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    if status == 405:
        assert response.headers["Allow"]


def test_a_long_body_is_413_with_and_without_a_length(start: Any) -> None:
    small = start(Echo(), max_body_bytes=2000)
    long = json.dumps(chat_body(user="x" * 5000)).encode()
    assert httpx.post(small.url + "/v1/chat/completions", content=long).status_code == 413
    pieces = (long[at : at + 500] for at in range(0, len(long), 500))
    response = httpx.post(small.url + "/v1/chat/completions", content=pieces)
    assert response.status_code == 413
    assert "2,000 bytes" in response.json()["error"]["message"]
    assert post(small, chat_body()).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", "Basic right", "Bearer right2", "Bearer \u00e4"]
)
def test_without_a_valid_key_nothing_is_told(start: Any, header: str | None) -> None:
    locked = start(Echo(), api_keys=("right",))
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
        response = httpx.request(method, locked.url + path, headers=headers, content=b"{")
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(locked.url + "/health").status_code == 200
    assert httpx.get(locked.url + "/").status_code == 200


def test_health_and_the_page(echo: Any) -> None:
    assert httpx.get(echo.url + "/health").json() == {"status": "ok", "model": "echo"}
    page = httpx.get(echo.url + "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("app.js", "api.js", "strings.js", "style.css"):
        file = httpx.get(f"{echo.url}/{name}")
        assert name.replace("js", "javascript").rpartition(".")[2] in file.headers["Content-Type"]
    assert httpx.head(echo.url + "/").status_code == 200
