"""What the API can ask of the engine: several answers, log-probabilities, bias, forms."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from fledge.client.local import LocalModel
from fledge.client.open import open_model
from fledge.client.remote import RemoteModel
from fledge.core.errors import FledgeError
from fledge.core.protocols import Sampling, Structure
from fledge.core.types import Message
from pico_model import write_pico_model

HELLO: list[Any] = [{"role": "user", "content": "Golden Gate"}]
SCHEMA = {
    "type": "object",
    "properties": {"open": {"type": "boolean"}, "lanes": {"enum": [2, 4, 6]}},
    "required": ["open", "lanes"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("runs") / "pico", context=192)


@pytest.fixture(scope="module")
def local(stage: Path) -> LocalModel:
    model = open_model(str(stage))
    assert isinstance(model, LocalModel)
    return model


@pytest.fixture(scope="module")
def pico(start: Any, local: LocalModel) -> Any:
    return start(local)


@pytest.fixture
def api(pico: Any) -> Any:
    with openai.OpenAI(base_url=f"{pico.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_n_answers_whole_and_streamed(api: Any) -> None:
    how: dict[str, Any] = {
        "model": "pico-sft",
        "messages": HELLO,
        "n": 3,
        "temperature": 1,
        "seed": 4,
        "max_tokens": 9,
    }
    whole = api.chat.completions.create(**how)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = {choice.index: choice.message.content for choice in whole.choices}
    assert len(set(texts.values())) == 3
    pieces = dict.fromkeys(range(3), "")
    ends = {}
    usage = None
    for event in api.chat.completions.create(
        **how, stream=True, stream_options={"include_usage": True}
    ):
        usage = event.usage or usage
        for choice in event.choices:
            pieces[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert pieces == texts
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage
    assert whole.usage.completion_tokens <= 27


def test_logprobs_are_those_of_the_answer(api: Any, local: LocalModel) -> None:
    how: dict[str, Any] = {"model": "pico-sft", "messages": HELLO, "max_tokens": 8}
    made = api.chat.completions.create(**how, logprobs=True, top_logprobs=4)
    told = made.choices[0].logprobs.content
    messages = [Message(role="user", content="Golden Gate")]
    reply = local.chat(messages, Sampling(max_new_tokens=8))
    ids = [*local.prompt(messages), *reply.token_ids]
    scored = local.engine.logprobs(ids)[-len(reply.token_ids) :]
    assert [one.logprob for one in told] == pytest.approx(scored, abs=1e-4)
    assert (
        b"".join(bytes(one.bytes) for one in told).decode("utf-8", "replace").startswith(reply.text)
    )
    for one in told:
        assert len(one.top_logprobs) == 4
        assert one.top_logprobs[0].logprob == one.logprob, "greedy takes the likeliest"
    streamed = [
        token
        for event in api.chat.completions.create(**how, logprobs=True, stream=True)
        for choice in event.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert [one.logprob for one in streamed] == [one.logprob for one in told]


def test_plain_completions_tell_logprobs_and_take_the_best(api: Any) -> None:
    how: dict[str, Any] = {
        "model": "pico-sft",
        "prompt": "The bridge",
        "max_tokens": 6,
        "temperature": 1,
        "seed": 1,
        "logprobs": 2,
    }
    drawn = api.completions.create(**how, n=5).choices
    best = api.completions.create(**how, n=1, best_of=5).choices

    def mean(choice: Any) -> float:
        values = choice.logprobs.token_logprobs
        return float(sum(values) / len(values))

    assert len(best) == 1
    assert mean(best[0]) == pytest.approx(max(mean(choice) for choice in drawn), abs=1e-5)
    told = best[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset)
    assert all(len(top) <= 2 for top in told.top_logprobs)
    for more in ({"best_of": 3, "stream": True}, {"best_of": 2, "n": 3}):
        with pytest.raises(openai.BadRequestError, match="best_of"):
            api.completions.create(**{**how, **more})


@pytest.mark.parametrize("seed", range(4))
def test_json_of_a_schema(api: Any, seed: int) -> None:
    made = api.chat.completions.create(
        model="pico-sft",
        messages=HELLO,
        temperature=1.0,
        seed=seed,
        max_tokens=90,
        response_format={"type": "json_schema", "json_schema": {"name": "b", "schema": SCHEMA}},
    )
    value = json.loads(made.choices[0].message.content)
    assert set(value) == {"open", "lanes"}
    assert value["lanes"] in (2, 4, 6)
    assert made.choices[0].finish_reason == "stop"


def test_other_forms(pico: Any) -> None:
    def ask(form: dict[str, Any], **more: Any) -> Any:
        body = {
            "model": "pico-sft",
            "messages": HELLO,
            "max_tokens": 60,
            "temperature": 1,
            "seed": 2,
            "response_format": form,
            **more,
        }
        return httpx.post(f"{pico.url}/v1/chat/completions", json=body, timeout=30)

    def text(form: dict[str, Any]) -> str:
        content: str = ask(form).json()["choices"][0]["message"]["content"]
        return content

    assert re.fullmatch(r"19\d\d m", text({"type": "regex", "regex": r"19\d\d m"}))
    assert text({"type": "choice", "choice": ["桥", "隧道"]}) in ("桥", "隧道")
    assert text({"type": "json_object"}).startswith("{")
    for form in (
        {"type": "regex", "regex": "("},
        {"type": "choice", "choice": []},
        {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}},
    ):
        refused = ask(form)
        assert refused.status_code == 400, refused.text
        assert "cannot be used" in refused.text or "choice" in refused.text
    assert ask({"type": "text"}, logit_bias={"999999": 1}).status_code == 400


def test_bias_and_penalties_reach_the_engine(api: Any, local: LocalModel) -> None:
    token = local.engine.tokenizer.encode("Gate")[0]
    name = local.engine.tokenizer.token_bytes(token).decode()
    how: dict[str, Any] = {"model": "pico-sft", "messages": HELLO, "max_tokens": 4}
    forced = api.chat.completions.create(**how, logit_bias={str(token): 100})
    assert forced.choices[0].message.content == name * 4
    varied = api.chat.completions.create(
        **how, logit_bias={str(token): 5}, frequency_penalty=2, presence_penalty=2
    )
    assert varied.choices[0].message.content.count(name) < 4


def test_lookup_and_min_tokens(pico: Any) -> None:
    def ask(**more: Any) -> Any:
        body = {"model": "pico-sft", "messages": HELLO, "max_tokens": 30, **more}
        return httpx.post(f"{pico.url}/v1/chat/completions", json=body, timeout=30).json()

    plain, looked = ask(), ask(prompt_lookup=8)
    assert looked["choices"] == plain["choices"]
    assert ask(min_tokens=30)["usage"]["completion_tokens"] == 30


def test_our_client_asks_for_all_of_it(pico: Any) -> None:
    with RemoteModel(f"{pico.url}/v1") as model:
        messages = [Message(role="user", content="Golden Gate")]
        form = Structure(kind="json_schema", value=SCHEMA)
        reply = model.chat(messages, Sampling(max_new_tokens=90, structure=form))
        assert set(json.loads(reply.text)) == {"open", "lanes"}
        how = Sampling(max_new_tokens=5, logprobs=True, top_logprobs=2, frequency_penalty=0.5)
        told = model.chat(messages, how).logprobs
        assert len(told) == 5
        assert list(model.stream(messages, how))[-1].reply.logprobs == told  # type: ignore[union-attr]
        with pytest.raises(FledgeError, match="one answer at a time"):
            model.chat(messages, Sampling(n=2))


@pytest.mark.timeout(120)
def test_clients_are_computed_together(pico: Any, local: LocalModel) -> None:
    def ask(seed: int) -> str:
        body = {
            "model": "pico-sft",
            "messages": HELLO,
            "max_tokens": 40,
            "temperature": 1,
            "seed": seed,
        }
        answer = httpx.post(f"{pico.url}/v1/chat/completions", json=body, timeout=60).json()
        text: str = answer["choices"][0]["message"]["content"]
        return text

    alone = [ask(seed) for seed in range(8)]
    steps = local.engine.loop.steps
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(8)))
    assert together == alone
    assert local.engine.loop.steps - steps < 8 * 40, "no step was shared"
