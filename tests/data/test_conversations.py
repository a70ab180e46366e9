"""Conversations of three forms are read alike; exactly the assistant's words are to be learnt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.conversations import parse_conversation, read_conversations, render
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    def texts() -> Iterator[tuple[str, str]]:
        for number in range(40):
            yield "en", f"The assistant said: the bridge opened in {1900 + number}.\n\nYes.\n"
            yield "zh-Hans", f"这座桥于{1900 + number}年建成。"

    folder = tmp_path_factory.mktemp("tokenizer")
    from fledge.core.protocols import Silent

    train_tokenizer(TokenizerConfig(vocab_size=420), texts, texts, folder, Silent())
    return Tokenizer.load(folder)


def dialogue(*turns: str) -> list[Message]:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    return [
        Message.from_openai({"role": roles[i % 2], "content": text}) for i, text in enumerate(turns)
    ]


def taught(tokenizer: Tokenizer, rendered: Any) -> list[str]:
    """The stretches of text the mask marks, special tokens written out."""
    stretches: list[list[int]] = []
    for i, (token, learn) in enumerate(zip(rendered.ids, rendered.mask, strict=True)):
        if learn and (i == 0 or not rendered.mask[i - 1]):
            stretches.append([])
        if learn:
            stretches[-1].append(token)
    return [tokenizer.decode(ids, specials=True) for ids in stretches]


def test_answers_and_their_stop_token_are_taught_and_nothing_else(tokenizer: Tokenizer) -> None:
    rendered = render(dialogue("When?", "In 1937.", "Who?", "Nobody knows."), tokenizer)
    assert taught(tokenizer, rendered) == ["In 1937.<|im_end|>", "Nobody knows.<|im_end|>"]
    assert tokenizer.decode(rendered.ids, specials=True) == (
        "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\nIn 1937.<|im_end|>\n"
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nNobody knows.<|im_end|>"
    )
    assert [rendered.ids[turn - 1] for turn in rendered.turns] == [tokenizer.im_end_id] * 2
    assert rendered.turns[-1] == len(rendered.ids)


def test_a_prompt_is_what_the_engine_will_send(tokenizer: Tokenizer) -> None:
    messages = dialogue("When?", "In 1937.")
    rendered = render(messages, tokenizer)
    prompt = tokenizer.encode_chat([messages[0].to_openai()], add_generation_prompt=True)
    assert rendered.ids[: len(prompt)] == prompt
    assert not any(rendered.mask[: len(prompt)])
    assert all(rendered.mask[len(prompt) :])


text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\n", "\n\nYes.", " ", "<|im_end|>", "a<|im_start|>assistant\nb", "年\n"]),
)


@given(turns=st.lists(text, min_size=2, max_size=6))
@settings(max_examples=150, deadline=None)
def test_whatever_is_said_the_mask_is_exact(tokenizer: Tokenizer, turns: list[str]) -> None:
    """White space at the edges and forged control tokens change nothing."""
    turns = turns[: len(turns) // 2 * 2]
    try:
        [turn.encode() for turn in turns]
    except UnicodeEncodeError:
        return
    rendered = render(dialogue(*turns), tokenizer)
    answers = [turn + "<|im_end|>" for turn in turns[1::2]]
    assert taught(tokenizer, rendered) == answers
    ends = [i for i in rendered.ids if i == tokenizer.im_end_id]
    assert len(ends) == len(turns)  # one per turn: none was forged
    assert sum(rendered.ids[i] == tokenizer.im_end_id for i in _true(rendered.mask)) == len(answers)


def _true(mask: list[bool]) -> list[int]:
    return [i for i, learn in enumerate(mask) if learn]


def test_system_tools_and_results_are_read_but_not_taught(tokenizer: Tokenizer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "1"},
        {"role": "assistant", "content": "2."},
        {"role": "user", "content": "Thanks!"},
    ]
    conversation = parse_conversation({"messages": messages, "tools": [{"name": "sum"}]})
    rendered = render(conversation.messages, tokenizer, conversation.tools)
    call_text, answer = taught(tokenizer, rendered)
    assert call_text.startswith("<tool_call>")
    assert '"arguments": {"a": 1}' in call_text
    assert call_text.endswith("<|im_end|>")
    assert answer == "2.<|im_end|>"
    assert "Thanks!" not in tokenizer.decode(rendered.ids)  # after the last answer


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": " A\n"}]},
        {"instruction": "Q", "input": "", "output": "A"},
        {"instruction": " Q\n", "output": "A"},
    ],
)
def test_three_forms_say_the_same(row: dict[str, Any]) -> None:
    assert parse_conversation(row).messages == tuple(dialogue("Q", "A"))


def test_alpaca_input_and_sharegpt_system_and_calls_are_kept() -> None:
    alpaca = parse_conversation({"instruction": "Add.", "input": "1, 2", "output": "3"})
    assert alpaca.messages[0].content == "Add.\n\n1, 2"
    sharegpt = parse_conversation(
        {
            "system": "S",
            "tools": '[{"name": "f"}]',
            "conversations": [
                {"from": "human", "value": "Q"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": "é"}}'},
                {"from": "observation", "value": "R"},
                {"from": "gpt", "value": "A"},
            ],
        }
    )
    assert [m.role for m in sharegpt.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert sharegpt.messages[2].tool_calls[0].arguments == '{"x": "é"}'
    assert sharegpt.tools == ({"name": "f"},)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"text": "x"}', "found text"),
        ('{"messages": []}', "at least one message"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "nothing to learn"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "message 1: role 'bot'"),
        ('{"messages": [{"role": "assistant", "content": 3}]}', "message 1: content"),
        ('{"conversations": [{"from": "me", "value": "x"}]}', "turn 1: 'from' is 'me'"),
        ('{"conversations": [{"from": "gpt", "value": null}]}', "turn 1: 'value' must be text"),
        ('{"instruction": "x", "output": null}', "'output' must be text"),
        (
            '{"messages": [{"role": "assistant", "content": "x"}], "tools": "[{"}',
            "'tools' is not JSON",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps({"messages": [{"role": "assistant", "content": "x"}]})
    path = tmp_path / "c.jsonl"
    path.write_text(f"{good}\n\n{line}\n")
    with pytest.raises(InputError, match=rf"c\.jsonl:3: .*{message}"):
        list(read_conversations(path))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        list(read_conversations(tmp_path / "nowhere.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"messages": "\xe9"}\n')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_conversations(tmp_path / "latin.jsonl"))


@pytest.mark.shared
def test_real_collections_are_read(fledge_data: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    import zstandard

    read = 0
    for name in ("alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_zh_demo"):
        packed = fledge_data / "llamafactory_demo" / f"{name}.jsonl.zst"
        with zstandard.open(packed, "rt", encoding="utf-8") as lines:
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(line for line, _ in zip(lines, range(60), strict=False)))
        for conversation in read_conversations(path):
            rendered = render(conversation.messages, tokenizer, conversation.tools)
            assert any(rendered.mask)
            assert len(rendered.turns) == sum(m.role == "assistant" for m in conversation.messages)
            read += 1
    assert read == 180
