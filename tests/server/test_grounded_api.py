"""The API over an index: passages, answers with citations, streams, refusals, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from grounded_library import TEXTS, script, small_library

from fledge.client.echo import Echo
from fledge.index.config import IndexConfig
from fledge.index.embed import open_embedder
from fledge.index.folder import build_index
from fledge.rag.grounding import opened
from fledge.server.app import create_app
from fledge.server.config import ServerConfig
from fledge.server.grounded import Library

QUESTION: list[Any] = [{"role": "user", "content": "When was the Humber Bridge opened?"}]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with small_library(tmp_path_factory.mktemp("library")) as made:
        yield made


@pytest.fixture
def api(start_app: Callable[..., Any], library: Library) -> openai.OpenAI:
    running = start_app(create_app(Echo(script), ServerConfig(), library))
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


def post(api: openai.OpenAI, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{api.base_url}{path}", json=body, timeout=20)


def test_passages_for_a_query(api: openai.OpenAI) -> None:
    body = post(api, "retrieval", {"query": "main span of the Humber Bridge", "k": 2}).json()
    first = body["data"][0]
    assert body["object"] == "list"
    assert first["path"].endswith("humber.txt")
    assert TEXTS["humber.txt"][first["start"] : first["end"]] == first["text"]
    assert (first["rank"], first["object"]) == (1, "passage")
    assert {stage["name"] for stage in body["trace"]} >= {"lexical", "fuse"}
    where = {"query": "Humber Bridge", "where": 'path like "*zhaozhou*"'}
    assert all("zhaozhou" in one["path"] for one in post(api, "retrieval", where).json()["data"])


def test_an_answer_has_citations_and_only_what_they_bear_out(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model="echo", messages=QUESTION)
    message: Any = answer.choices[0].message
    assert message.content == "The Humber Bridge opened in 1981. [1]"
    assert message.supported is True
    (citation,) = message.citations
    assert citation["marker"] == "[1]"
    assert citation["quote"] == "The Humber Bridge opened in 1981."
    assert TEXTS["humber.txt"][citation["start"] : citation["end"]] == citation["quote"]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 50
    assert answer.usage.completion_tokens == 13


def test_a_stream_brings_sentences_with_their_citations(api: openai.OpenAI) -> None:
    question: list[Any] = [{"role": "user", "content": "赵州桥是谁设计的？"}]
    text, cited, last = "", [], None
    for chunk in api.chat.completions.create(model="echo", messages=question, stream=True):
        delta: Any = chunk.choices[0].delta
        text += delta.content or ""
        if delta.content:
            cited += getattr(delta, "citations", [])
        last = chunk.choices[0]
    assert text == "赵州桥由李春设计。[1]"
    assert [one["quote"] for one in cited] == ["赵州桥由李春设计。"]
    assert last is not None
    assert last.finish_reason == "stop"
    final: Any = last.delta
    assert final.supported is True
    assert final.citations == cited


def test_what_is_not_in_the_documents(api: openai.OpenAI) -> None:
    question: list[Any] = [{"role": "user", "content": "What is the capital of Mongolia?"}]
    message: Any = api.chat.completions.create(model="echo", messages=question).choices[0].message
    assert message.content == "The answer is not in your documents."
    assert (message.supported, message.citations) == (False, [])


def test_grounding_can_be_turned_off_and_does_not_meet_tools(api: openai.OpenAI) -> None:
    plain: Any = api.chat.completions.create(
        model="echo", messages=QUESTION, extra_body={"grounding": False}
    )
    assert "Leonardo" in plain.choices[0].message.content
    assert not hasattr(plain.choices[0].message, "citations")
    form: Any = {"type": "json_object"}
    with pytest.raises(openai.BadRequestError, match="a grounded answer has no response_format"):
        api.chat.completions.create(
            model="echo", messages=QUESTION, response_format=form, extra_body={"grounding": True}
        )


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"query": ""}, 400, "query"),
        ({}, 400, "query"),
        ({"query": "x", "k": 0}, 400, "k"),
        ({"query": "x", "top": 3}, 400, "top"),
        ({"query": "x", "where": "colour = red"}, 400, "where"),
    ],
)
def test_wrong_requests_name_their_field(
    api: openai.OpenAI, body: Any, status: int, param: str
) -> None:
    answer = post(api, "retrieval", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_the_last_message_must_be_a_question(api: openai.OpenAI) -> None:
    messages: list[Any] = [*QUESTION, {"role": "assistant", "content": "Hm."}]
    with pytest.raises(openai.BadRequestError, match="needs a question"):
        api.chat.completions.create(model="echo", messages=messages)


def test_a_server_without_an_index_says_so(start_app: Callable[..., Any]) -> None:
    running = start_app(create_app(Echo(["hello"])))
    asked = httpx.post(f"{running.url}/v1/retrieval", json={"query": "x"}, timeout=20)
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "no_index")
    body = {"model": "echo", "messages": QUESTION, "grounding": True}
    chat = httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=20)
    assert (chat.status_code, chat.json()["error"]["code"]) == (404, "no_index")


def test_retrieval_asks_for_the_key(start_app: Callable[..., Any], library: Library) -> None:
    running = start_app(create_app(Echo([]), ServerConfig(api_keys=("secret",)), library))
    url = f"{running.url}/v1/retrieval"
    assert httpx.post(url, json={"query": "Humber"}, timeout=20).status_code == 401
    key = {"Authorization": "Bearer secret"}
    assert httpx.post(url, json={"query": "Humber"}, headers=key, timeout=20).status_code == 200


def test_an_index_is_read_while_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("The toll is two pounds.", encoding="utf-8")
    config = IndexConfig(input=(str(tmp_path / "texts"),), embedder="none")
    build_index(config, tmp_path / "index", open_embedder("none"))
    with opened(tmp_path / "index") as grounding:
        library = Library(grounding)
        from fledge.server.grounded import RetrievalRequest

        asked = RetrievalRequest(query="toll pounds")
        assert "two" in library.passages(asked)["data"][0]["text"]
        (tmp_path / "texts" / "a.txt").write_text("The toll is three pounds.", encoding="utf-8")
        build_index(config, tmp_path / "index", open_embedder("none"))
        assert "three" in library.passages(asked)["data"][0]["text"]
