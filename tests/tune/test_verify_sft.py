"""The checks of fine-tuning data: they pass on sound data and name what is broken."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from fledge.core.protocols import Silent
from fledge.data.conversations import Rendered
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.verify.check import Check, Subject, name_of, run_checks
from fledge.train.verify.subject import open_subject
from fledge.tune import verify_sft
from fledge.tune.verify_sft import CHECKS
from pico_model import write_pico_model

ALL = {name_of(check): check for check in CHECKS}

CALL = {"id": "1", "type": "function", "function": {"name": "span", "arguments": '{"of": "金门"}'}}
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "Here <|im_end|> and there."},
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": "  1937。"},
            {"role": "user", "content": "Thanks, I will not be answered."},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "How long?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "1280", "tool_call_id": "1"},
            {"role": "assistant", "content": "1280 m"},
            {"role": "assistant", "content": "That is all."},
        ]
    },
    {"instruction": "Say yes", "input": "now", "output": "yes"},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
]


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    path = tmp_path / "talk.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path.write_text("\n".join(lines), encoding="utf-8")
    stage = write_pico_model(tmp_path, context=400)
    (tmp_path / "scratch").mkdir()
    return open_subject(stage, None, None, [path], tmp_path / "scratch")


def verdict(name: str, subject: Subject) -> Check:
    [found] = run_checks(subject, [ALL[name]], Silent())
    return found


def test_sound_conversations_of_every_form(subject: Subject) -> None:
    found = run_checks(subject, CHECKS, Silent())
    assert [check for check in found if check.ok is not True] == []
    assert "7 answers in 4 conversations" in found[0].compared
    assert "7 <|im_end|>" in found[1].compared


Spoil = Callable[[Rendered], list[bool]]


def shifted(rendered: Rendered) -> list[bool]:
    return [*rendered.mask[1:], False]


def prompts_too(rendered: Rendered) -> list[bool]:
    return [True] * len(rendered.mask)


def last_answer_only(rendered: Rendered) -> list[bool]:
    cut = rendered.turns[-2] if len(rendered.turns) > 1 else 0
    return [learnt and i >= cut for i, learnt in enumerate(rendered.mask)]


def stop_untrained(rendered: Rendered) -> list[bool]:
    ends = {turn - 1 for turn in rendered.turns}
    return [learnt and i not in ends for i, learnt in enumerate(rendered.mask)]


def nothing(rendered: Rendered) -> list[bool]:
    return [False] * len(rendered.mask)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("answers-only", shifted),
        ("answers-only", prompts_too),
        ("answers-only", last_answer_only),
        ("answers-only", nothing),
        ("stop-token", stop_untrained),
        ("stop-token", prompts_too),
        ("stop-token", last_answer_only),
        ("conversation-masks", nothing),
    ],
)
def test_wrong_masks_are_caught(
    name: str, spoil: Spoil, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = verify_sft.render_conversation

    def render(*given: Any) -> Rendered:
        found = inner(*given)
        return dataclasses.replace(found, mask=spoil(found))

    monkeypatch.setattr(verify_sft, "render_conversation", render)
    found = verdict(name, subject)
    assert found.ok is False, found.compared


def test_a_model_that_does_not_stop_is_caught(subject: Subject) -> None:
    subject.model.config = subject.model.config.model_copy(update={"eos_ids": (0,)})
    found = verdict("stop-token", subject)
    assert found.ok is False
    assert "it runs on" in found.compared


def test_a_base_model_need_not_stop_yet(tmp_path: Path) -> None:
    stage = write_pico_model(tmp_path, stage="pretrain")
    (tmp_path / "scratch").mkdir()
    subject = open_subject(stage, None, None, [], tmp_path / "scratch")
    subject.model.config = subject.model.config.model_copy(update={"eos_ids": (0,)})
    found = verdict("stop-token", subject)
    assert found.ok is True
    assert "sft adds it" in found.compared


def test_conversations_that_cannot_be_read_fail_by_line(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"messages": [{"role": "robot", "content": "x"}]}\n')
    broken = dataclasses.replace(subject, conversations=(path,))
    found = verdict("answers-only", broken)
    assert found.ok is False
    assert "broken.jsonl:1" in found.compared


def test_conversations_that_do_not_fit_are_skipped_with_a_reason(
    subject: Subject, tmp_path: Path
) -> None:
    path = tmp_path / "long.jsonl"
    long = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "word " * 999}]
    path.write_text(json.dumps({"messages": long}) + "\n")
    found = verdict("stop-token", dataclasses.replace(subject, conversations=(path,)))
    assert found.ok is None
    assert "401 tokens" in found.compared


def test_the_model_is_left_alone(subject: Subject) -> None:
    assert subject.source is not None
    before = load_file(subject.source / "model.safetensors")
    run_checks(subject, CHECKS, Silent())
    after = load_file(subject.source / "model.safetensors")
    assert all((before[name] == after[name]).all() for name in before)


LLAMA = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}<|im_end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)


def test_a_template_of_another_house_is_compared_without_white_space(subject: Subject) -> None:
    assert subject.tokenizer is not None
    subject.tokenizer.chat_template = LLAMA
    found = verdict("answers-only", subject)
    assert found.ok is True, found.compared
    assert "4 answers in 3 conversations" in found.compared, "the one with tool calls is left out"


def test_a_tokenizer_without_turns_is_taught_them_as_sft_does(
    subject: Subject, tmp_path: Path
) -> None:
    assert subject.tokenizer_folder is not None
    folder = tmp_path / "bare"
    folder.mkdir()
    model = json.loads((subject.tokenizer_folder / "tokenizer.json").read_text())
    model["added_tokens"] = model["added_tokens"][:1]
    for text in [text for text in model["model"]["vocab"] if text.startswith("<|im_")]:
        model["model"]["vocab"][text.strip("<|>")] = model["model"]["vocab"].pop(text)
    (folder / "tokenizer.json").write_text(json.dumps(model))
    bare = dataclasses.replace(subject, tokenizer=Tokenizer.load(folder))
    assert verdict("answers-only", bare).ok is True
    found = verdict("stop-token", bare)
    assert found.ok is True
    assert "sft adds it" in found.compared
