"""Embeddings over HTTP: batches, order, what is tried again, what is refused and how it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from fledge.core.errors import FledgeError, InputError
from fledge.index.embed.remote import BATCH, BATCH_CHARACTERS, TRIES, RemoteEmbedder

Handler = Callable[[list[str]], httpx.Response]


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.0, 2.0]


def answer(texts: list[str]) -> httpx.Response:
    rows: list[dict[str, Any]] = [
        {"index": number, "embedding": vector_of(text)} for number, text in enumerate(texts)
    ]
    return httpx.Response(200, json={"data": rows[::-1]})  # in any order


class Server:
    """Answers like an embeddings server, but for what ``handlers`` say first, in turn."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers, self.asked, self.waits = list(handlers), [], list[float]()
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "first"}, {"id": "second"}]})
        body = json.loads(request.content)
        if body["input"] == ["bridge"]:
            return answer(body["input"])
        self.asked.append(body["input"])
        return self.handlers.pop(0)(body["input"]) if self.handlers else answer(body["input"])

    def open(self, url: str = "http://host:1/v1", key: str = "") -> RemoteEmbedder:
        return RemoteEmbedder(
            url, key, transport=httpx.MockTransport(self), sleep=self.waits.append
        )


def refuse(code: int, message: str = "no", **headers: str) -> Handler:
    return lambda texts: httpx.Response(code, json={"error": {"message": message}}, headers=headers)


def test_vectors_come_in_the_order_of_the_texts_and_of_unit_length() -> None:
    embedder = Server().open()
    texts = ["a" * length for length in (3, 1, 2)]
    vectors = embedder.embed(texts)
    expected = np.array([vector_of(text) for text in texts])
    assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert vectors.dtype == np.float32
    assert (embedder.name, embedder.dimensions) == ("first", 3)


def test_the_model_may_be_named_and_is_part_of_the_revision() -> None:
    server = Server()
    named = server.open("http://host:1/v1#second")
    named.embed(["x"])
    assert json.loads(server.requests[-1].content)["model"] == "second"
    assert named.revision != server.open().revision
    assert named.revision == server.open("http://host:1/v1/#second").revision


def test_requests_are_of_bounded_size() -> None:
    server = Server()
    long = "x" * (BATCH_CHARACTERS // 2)
    server.open().embed(["short"] * (BATCH + 1) + [long] * 3)
    assert [len(texts) for texts in server.asked] == [BATCH, 2, 2]


def test_what_may_pass_is_tried_again_after_the_wait_asked_for() -> None:
    server = Server(refuse(503), refuse(429, **{"Retry-After": "7"}), refuse(500))
    assert server.open().embed(["a"]).shape == (1, 3)
    assert server.waits == [1.0, 7.0, 4.0]


def test_a_server_that_stays_broken_is_given_up() -> None:
    server = Server(*[refuse(500, "out of memory")] * TRIES)
    with pytest.raises(FledgeError, match="answered 500: out of memory"):
        server.open().embed(["a"])
    assert len(server.waits) == TRIES - 1


def test_a_lost_connection_is_tried_again() -> None:
    def lost(texts: list[str]) -> httpx.Response:
        raise httpx.ReadError("gone")

    assert Server(lost, lost).open().embed(["a"]).shape == (1, 3)
    with pytest.raises(FledgeError, match=r"cannot reach http://host:1/v1.*running"):
        Server(*[lost] * TRIES).open().embed(["a"])


def test_a_request_that_is_too_large_is_halved() -> None:
    def small_only(texts: list[str]) -> httpx.Response:
        return answer(texts) if len(texts) <= 2 else refuse(413)(texts)

    server = Server(*[small_only] * 20)
    texts = ["a" * length for length in range(1, 8)]
    expected = np.array([vector_of(text) for text in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(server.open().embed(texts), expected)
    with pytest.raises(FledgeError, match="make chunks smaller"):
        Server(refuse(400, "maximum context length")).open().embed(["a"])


def test_a_wrong_key_is_refused_at_once_and_never_shown() -> None:
    server = Server(refuse(401, "bad key"))
    with pytest.raises(FledgeError, match="401: bad key") as raised:
        server.open(key="secret-key").embed(["a"])
    assert "secret-key" not in str(raised.value)
    assert server.waits == []
    assert server.requests[-1].headers["authorization"] == "Bearer secret-key"


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret"])
def test_a_key_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="--api-key-file") as raised:
        Server().open(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"index": 0, "embedding": [1.0, 2.0]}]},
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0, None, 2.0]}]},
        {"vectors": []},
        [],
    ],
)
def test_answers_of_another_shape_are_refused(body: Any) -> None:
    server = Server(lambda texts: httpx.Response(200, json=body))
    with pytest.raises(FledgeError, match="check the URL"):
        server.open().embed(["a"])
    page = Server(lambda texts: httpx.Response(200, text="<html>"))
    with pytest.raises(FledgeError, match="not JSON"):
        page.open().embed(["a"])


def test_a_server_without_models_wants_one_named() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": []}))
    with pytest.raises(FledgeError, match="name it"):
        RemoteEmbedder("http://host/v1", transport=transport)
