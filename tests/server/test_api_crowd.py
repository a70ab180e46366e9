"""The API under many clients: fair, bounded, and whole when clients leave and models fail."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from api_client import HELLO, chat_body, client, post

from fledge.client.echo import Echo
from fledge.core.errors import FledgeError
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message


def test_concurrent_clients_are_all_served_the_right_answer(pico: Any, local: ChatModel) -> None:
    questions = [f"bridge number {number}" for number in range(12)]

    def ask(number: int) -> str:
        body = {
            "model": "pico-sft",
            "messages": [{"role": "user", "content": questions[number]}],
            "max_tokens": 15,
            "stream": bool(number % 2),
        }
        response = post(pico, body)
        if not number % 2:
            return str(response.json()["choices"][0]["message"]["content"])
        events = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
        pieces = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
        return "".join(pieces)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    sampling = Sampling(max_new_tokens=15)
    assert answers == [
        local.chat([Message(role="user", content=question)], sampling).text
        for question in questions
    ]


def test_a_short_answer_overtakes_a_long_one(start: Any) -> None:
    running = start(Echo(pause=0.01))
    ended: dict[str, float] = {}

    def ask(name: str, words: int) -> None:
        message = {"role": "user", "content": "word " * words}
        post(running, {"model": "echo", "messages": [message]})
        ended[name] = time.monotonic()

    long = threading.Thread(target=ask, args=("long", 150))
    long.start()
    time.sleep(0.2)
    ask("short", 2)
    long.join()
    assert ended["short"] < ended["long"] - 0.5


def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Endless(Echo):
    """Writes on until it is closed."""

    closed = 0

    def stream(self, messages: Any, sampling: Sampling) -> Any:
        try:
            yield from Echo(["word " * 100_000], pause=0.005).stream(messages, sampling)
        finally:
            type(self).closed += 1


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_stops_the_generation(start: Any, stream: bool) -> None:
    running = start(Endless(), concurrent=1)
    closed = Endless.closed
    body = json.dumps(chat_body(stream=stream, max_tokens=10**6)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head + body)
        until(lambda: running.desk.inside == 1)
        time.sleep(0.2)
    until(lambda: Endless.closed == closed + 1)
    until(lambda: running.desk.inside == 0)


def test_a_client_that_hangs_up_in_line_leaves_it(start: Any) -> None:
    running = start(Endless(), concurrent=1, waiting=5)
    body = chat_body(stream=True, max_tokens=10**6)
    with httpx.stream("POST", running.url + "/v1/chat/completions", json=body) as first:
        lines = first.iter_lines()  # kept: dropping it hangs up
        next(lines)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(running.url + "/v1/chat/completions", json=body, timeout=0.3)
        until(lambda: running.desk.inside == 1)
    until(lambda: running.desk.inside == 0)


def test_a_full_line_is_429_with_retry_after(start: Any) -> None:
    running = start(Endless(), concurrent=1, waiting=0)
    body = chat_body(stream=True, max_tokens=10**6)
    with httpx.stream("POST", running.url + "/v1/chat/completions", json=body) as first:
        lines = first.iter_lines()  # kept: dropping it hangs up
        next(lines)
        refused = post(running, chat_body())
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["type"] == "rate_limit_error"
    until(lambda: running.desk.inside == 0)


def test_draining_finishes_what_runs_and_refuses_what_comes(start: Any) -> None:
    running = start(Echo(["word " * 100], pause=0.01))
    lines: list[str] = []
    with httpx.stream(
        "POST", running.url + "/v1/chat/completions", json=chat_body(stream=True)
    ) as first:
        answer = first.iter_lines()
        lines.append(next(answer))
        running.server.drain()
        refused = post(running, chat_body())
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert httpx.get(running.url + "/health").status_code == 503
        lines += list(answer)
    assert "data: [DONE]" in lines
    running.thread.join(timeout=10)
    assert not running.thread.is_alive()


class Failing(Echo):
    def __init__(self, error: Exception, after: int) -> None:
        super().__init__(name="echo")
        self.error = error
        self.after = after

    def stream(self, messages: Any, sampling: Sampling) -> Any:
        for number, delta in enumerate(super().stream(messages, sampling)):
            if number == self.after:
                raise self.error
            yield delta


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_that_fails_at_once_is_an_http_error(start: Any, stream: bool) -> None:
    running = start(Failing(FledgeError("no ink", remedy="refill"), after=0))
    response = post(running, chat_body(stream=stream))
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "no ink; refill"


def test_a_model_that_fails_later_ends_the_stream_with_the_error(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(Failing(ZeroDivisionError("secret detail"), after=2))
    response = post(running, chat_body(stream=True))
    assert response.status_code == 200
    last = response.text.strip().splitlines()[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert "secret detail" in caplog.text
    with client(running) as api, pytest.raises(openai.APIError, match="internal error"):
        list(api.chat.completions.create(model="echo", messages=HELLO, stream=True))


def test_the_first_piece_is_not_held_back(start: Any) -> None:
    running = start(Echo(["word " * 40], pause=0.05))
    began = time.monotonic()
    with httpx.stream(
        "POST", running.url + "/v1/chat/completions", json=chat_body(stream=True)
    ) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = (line for line in response.iter_lines() if "word" in line)
        next(lines)
        assert time.monotonic() - began < 1.0


def test_the_page_is_in_the_package() -> None:
    from fledge.server import page

    files = [path for path in Path(page.WEB).rglob("*") if path.is_file()]
    assert {"index.html", "app.js", "style.css", "label.js"} <= {path.name for path in files}
    for path in files:
        content = path.read_text(encoding="utf-8")
        assert "innerHTML" not in content
        assert "https://" not in content


def test_extreme_values_that_are_allowed_draw_an_answer(pico: Any) -> None:
    cold = {"model": "pico-sft", "messages": HELLO, "max_tokens": 8, "temperature": 0}
    greedy = post(pico, cold).json()["choices"][0]["message"]["content"]
    for extreme in (1e-300, 1e-40, 1e-7, 1e-4):
        answer = post(pico, cold | {"temperature": extreme, "top_k": 2**53, "seed": 2**53})
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == greedy
