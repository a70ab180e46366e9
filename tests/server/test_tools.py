"""Function calling: whatever the model, a call fits the schema of its tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from fledge.client.open import open_model
from fledge.client.remote import RemoteModel
from fledge.core.protocols import Sampling, Structure
from fledge.core.types import Message
from pico_model import write_pico_model

HELLO: list[Any] = [{"role": "user", "content": "How long is it?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "span_of",
            "description": "The main span of a bridge.",
            "parameters": {
                "type": "object",
                "properties": {
                    "bridge": {"enum": ["Golden Gate", "金门大桥"]},
                    "unit": {"enum": ["m", "ft"]},
                },
                "required": ["bridge", "unit"],
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


@pytest.fixture(scope="module")
def pico(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    stage: Path = write_pico_model(tmp_path_factory.mktemp("runs") / "pico", context=768)
    return start(open_model(str(stage)))


@pytest.fixture
def api(pico: Any) -> Any:
    with openai.OpenAI(base_url=f"{pico.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def check(calls: Any) -> None:
    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function"
        arguments = json.loads(call.function.arguments)
        if call.function.name == "span_of":
            assert set(arguments) == {"bridge", "unit"}
            assert arguments["unit"] in ("m", "ft")
        else:
            assert (call.function.name, arguments) == ("now", {})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_is_well_formed(api: Any, seed: int, stream: bool) -> None:
    how: dict[str, Any] = {
        "model": "pico-sft",
        "messages": HELLO,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 1.0,
        "seed": seed,
        "max_tokens": 100,
    }
    if not stream:
        [choice] = api.chat.completions.create(**how).choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        check(choice.message.tool_calls)
        return
    with api.chat.completions.stream(**how) as events:
        whole = events.get_final_completion()
    assert whole.choices[0].finish_reason == "tool_calls"
    check(whole.choices[0].message.tool_calls)


def test_a_named_tool_is_the_one_called(api: Any) -> None:
    made = api.chat.completions.create(
        model="pico-sft",
        messages=HELLO,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "span_of"}},
        parallel_tool_calls=False,
        max_tokens=100,
    )
    check(made.choices[0].message.tool_calls)
    assert made.choices[0].message.tool_calls[0].function.name == "span_of"


def test_auto_may_answer_in_words_and_none_must(api: Any) -> None:
    how: dict[str, Any] = {
        "model": "pico-sft",
        "messages": HELLO,
        "tools": TOOLS,
        "max_tokens": 20,
        "temperature": 1.0,
    }
    for choice, seeds in (("auto", range(6)), ("none", range(2))):
        for seed in seeds:
            made = api.chat.completions.create(**how, tool_choice=choice, seed=seed).choices[0]
            assert "<tool_call>" not in (made.message.content or "")
            if made.message.tool_calls:
                assert choice == "auto"
                check(made.message.tool_calls)


def test_the_template_shows_the_tools_and_results_come_back(api: Any) -> None:
    how: dict[str, Any] = {"model": "pico-sft", "max_tokens": 5}
    plain = api.chat.completions.create(**how, messages=HELLO).usage.prompt_tokens
    shown = api.chat.completions.create(**how, messages=HELLO, tools=TOOLS).usage.prompt_tokens
    assert shown > plain + 20
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    answered = api.chat.completions.create(**how, messages=history, tools=TOOLS, tool_choice="none")
    assert answered.usage.prompt_tokens > plain


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0] has no function with a name"),
        ({"tools": [TOOLS[1], TOOLS[1]]}, "two tools have the name"),
        ({"tools": TOOLS, "tool_choice": "span_of"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "names 'x'",
        ),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_wrong_tools_are_refused(pico: Any, more: dict[str, Any], words: str) -> None:
    body = {"model": "pico-sft", "messages": HELLO, **more}
    answer = httpx.post(f"{pico.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


def test_our_client_reads_calls(pico: Any) -> None:
    form = Structure(kind="tools", value={"tools": TOOLS, "choice": "span_of", "parallel": False})
    how = Sampling(max_new_tokens=100, structure=form)
    messages = [Message(role="user", content="How long is it?")]
    with RemoteModel(f"{pico.url}/v1") as model:
        whole = model.chat(messages, how)
        streamed = list(model.stream(messages, how))[-1].reply
    assert streamed is not None
    for reply in (whole, streamed):
        [call] = reply.tool_calls
        assert call.name == "span_of"
        assert set(json.loads(call.arguments)) == {"bridge", "unit"}
        assert reply.finish_reason == "tool_calls"
