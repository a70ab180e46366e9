"""Adapters, echoed prompts and fair turns at the API."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from fledge.client.local import LocalModel
from fledge.client.open import open_model
from fledge.core.protocols import Sampling
from fledge.core.types import Message
from pico_adapter import KINDS, write_adapter
from pico_model import write_pico_model

HELLO: list[Any] = [{"role": "user", "content": "Golden Gate"}]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("runs") / "pico", context=192)


@pytest.fixture(scope="module")
def folder(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("lora", "dora")):
        write_adapter(stage / "model", folder / name, KINDS[name], seed)
    return folder


@pytest.fixture
def model(stage: Path) -> LocalModel:
    found = open_model(str(stage))
    assert isinstance(found, LocalModel)
    return found


def client(running: Any, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)


def ask(api: openai.OpenAI, name: str) -> str:
    answer = api.chat.completions.create(model=name, messages=HELLO, max_tokens=8)
    assert answer.model == name
    return str(answer.choices[0].message.content)


def test_adapters_are_models_of_their_own(start: Any, model: LocalModel, folder: Path) -> None:
    model.engine.adapters.load("lora", folder / "lora")
    model.engine.adapters.load("dora", folder / "dora")
    with client(start(model)) as api:
        cards = api.models.list().data
        assert [card.id for card in cards] == ["pico-sft", "lora", "dora"]
        assert [getattr(card, "parent", None) for card in cards] == [None, "pico-sft", "pico-sft"]
        assert api.models.retrieve("dora").id == "dora"
        names = ["pico-sft", "lora", "dora"] * 4
        alone = {name: ask(api, name) for name in names[:3]}
        assert len(set(alone.values())) == 3
        with ThreadPoolExecutor(12) as pool:
            together = list(pool.map(lambda name: ask(api, name), names))
        assert together == [alone[name] for name in names]
        with pytest.raises(openai.NotFoundError, match="this server has 'pico-sft', 'lora'"):
            ask(api, "nobody")


def test_clients_load_from_one_folder_only(
    start: Any, model: LocalModel, folder: Path, tmp_path: Path
) -> None:
    running = start(model, adapter_folder=folder)
    outside = write_adapter(model_folder(model, tmp_path), tmp_path / "outside", KINDS["lora"])

    def load(name: str, path: str) -> httpx.Response:
        body = {"lora_name": name, "lora_path": path}
        return httpx.post(f"{running.url}/v1/load_lora_adapter", json=body)

    assert load("style", "lora").json()["parent"] == "pico-sft"
    assert load("style", "dora").status_code == 400  # the name is taken
    for path in ("../outside", str(outside), "nothing", "lora/adapter_config.json"):
        refused = load("other", path)
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, "lora_path")
    assert load("pico-sft", "lora").status_code == 400
    assert load("", "lora").status_code == 400
    with client(running) as api:
        assert ask(api, "style") != ask(api, "pico-sft")
        gone = httpx.post(f"{running.url}/v1/unload_lora_adapter", json={"lora_name": "style"})
        assert gone.json() == {"id": "style", "object": "model", "deleted": True}
        with pytest.raises(openai.NotFoundError):
            ask(api, "style")
    again = httpx.post(f"{running.url}/v1/unload_lora_adapter", json={"lora_name": "style"})
    assert again.status_code == 404


def model_folder(model: LocalModel, where: Path) -> Path:
    """The same pico model, written anew."""
    return write_pico_model(where / "again", context=192) / "model"


def test_without_a_folder_nothing_is_loaded(start: Any, model: LocalModel) -> None:
    running = start(model)
    body = {"lora_name": "style", "lora_path": "lora"}
    refused = httpx.post(f"{running.url}/v1/load_lora_adapter", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "adapters_off")
    gone = httpx.post(f"{running.url}/v1/unload_lora_adapter", json={"lora_name": "style"})
    assert gone.status_code == 403


def test_a_key_guards_the_loading(start: Any, model: LocalModel, folder: Path) -> None:
    running = start(model, adapter_folder=folder, api_keys=("secret",))
    body = {"lora_name": "style", "lora_path": "lora"}
    assert httpx.post(f"{running.url}/v1/load_lora_adapter", json=body).status_code == 401


TEXT = "The Golden Gate Bridge opened in 1937; its span is 1280 metres."


def test_echo_scores_a_text(start: Any, model: LocalModel) -> None:
    """``max_tokens = 0`` with ``echo``: how evaluation harnesses read log-probabilities."""
    with client(start(model)) as api:
        made = api.completions.create(
            model="pico-sft", prompt=TEXT, max_tokens=0, echo=True, logprobs=2
        )
    (choice,) = made.choices
    told: Any = choice.logprobs
    assert (choice.text, choice.finish_reason) == (TEXT, "length")
    assert made.usage is not None
    assert made.usage.completion_tokens == 0
    assert "".join(told.tokens) == TEXT
    ids = model.text_prompt(TEXT)
    assert told.token_logprobs == pytest.approx(model.engine.logprobs(ids), abs=1e-4)
    assert all(len(top) == 2 for top in told.top_logprobs)
    assert told.text_offset == [TEXT.index(TEXT[at:]) for at in told.text_offset]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_echo_begins_the_answer(
    start: Any, model: LocalModel, stream: bool, logprobs: int | None
) -> None:
    how: dict[str, Any] = {"model": "pico-sft", "prompt": TEXT, "max_tokens": 5, "seed": 3}
    with client(start(model)) as api:
        plain = api.completions.create(**how).choices[0].text
        made: Any = api.completions.create(**how, echo=True, logprobs=logprobs, stream=stream)
        parts = list(made) if stream else [made]
    text = "".join(part.choices[0].text for part in parts if part.choices)
    assert text == TEXT + plain
    told = [part.choices[0].logprobs for part in parts if part.choices]
    tokens = [token for one in told if one for token in one.tokens]
    assert len(tokens) == (0 if logprobs is None else len(model.text_prompt(TEXT)) - 1 + 5)


def test_the_first_token_of_all_has_no_logprob(model: LocalModel) -> None:
    """Without a token that begins documents nothing comes before the first."""
    ids = model.text_prompt(TEXT)[1:]
    (first, *others) = model._told(ids, [])
    assert (first.logprob, others) == (None, [])


def test_a_text_as_long_as_the_context_can_be_scored(model: LocalModel) -> None:
    text = "bridge " * 400
    while len(model.text_prompt(text)) > model.engine.context:
        text = text[:-1]
    how = Sampling(max_new_tokens=0, echo=True, logprobs=True)
    *_, last = model.complete(text, how)
    assert last.reply is not None
    assert last.reply.text == text
    assert len(last.reply.logprobs) == len(model.text_prompt(text)) - 1


def test_clients_take_turns(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with one question is not kept waiting by another's twenty long ones."""
    engine = model.engine
    engine.loop.scheduler.budget = 64
    begun, step = threading.Event(), engine.runner.step

    def slow(pieces: Any) -> Any:
        begun.set()
        time.sleep(0.01)
        return step(pieces)

    monkeypatch.setattr(engine.runner, "step", slow)
    how = Sampling(max_new_tokens=4)
    entered, enter = {}, engine.loop.enter
    waited: dict[str, int] = {}

    def entering(job: Any) -> None:
        enter(job)
        entered[threading.current_thread().name] = engine.loop.steps

    monkeypatch.setattr(engine.loop, "enter", entering)

    def finish(client: str, number: int) -> None:
        text = f"{number} bridges. " + "The Golden Gate Bridge opened in 1937. " * 3
        stream = model.for_client(client).stream([Message(role="user", content=text)], how)
        next(stream)
        name = threading.current_thread().name
        waited[name] = engine.loop.steps - entered[name]
        for _ in stream:
            pass

    threads = [
        threading.Thread(target=finish, args=("many", number), name=f"many {number}")
        for number in range(20)
    ]
    threads.append(threading.Thread(target=finish, args=("one", 99), name="one"))
    for thread in threads[:-1]:
        thread.start()
    begun.wait()
    threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(waited) == 21
    assert waited["one"] <= 5 < sorted(waited.values())[10]


def test_the_server_tells_clients_apart(
    start: Any, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    stream = model.engine.stream

    def spy(*args: Any, client: str = "", **named: Any) -> Any:
        seen.append(client)
        return stream(*args, client=client, **named)

    monkeypatch.setattr(model.engine, "stream", spy)
    with client(start(model, api_keys=("ann", "bob")), "ann") as api:
        ask(api, "pico-sft")
    with client(start(model, api_keys=("ann", "bob")), "bob") as api:
        ask(api, "pico-sft")
    with client(start(model), "whatever") as api:
        ask(api, "pico-sft")
    assert len(set(seen)) == 3
    assert seen[2] == "127.0.0.1"
    assert not any("ann" in one or "bob" in one for one in seen)
