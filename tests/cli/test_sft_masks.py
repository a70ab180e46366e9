"""``fledge sft --show-masks`` shows what is learnt, without colour as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fledge.cli.sft import command
from fledge.core.errors import InputError
from pico_model import write_pico_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"), stage="pretrain")


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    rows = [
        {"instruction": "何时？", "output": "1937年。"},
        {"instruction": "When?", "output": "In\x1b[31m 1937."},
        {"instruction": "Who? " * 200, "output": "A."},
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(base: Path, conversations: Path, *more: str) -> str:
    arguments = ["--model", str(base), "--conversations", str(conversations), *more]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_what_is_learnt_stands_in_brackets(base: Path, conversations: Path) -> None:
    shown = run(base, conversations, "--show-masks", "3")
    assert (
        "<|im_start|>user\n何时？<|im_end|>\n<|im_start|>assistant\n⟦1937年。<|im_end|>⟧" in shown
    )
    assert "In\ufffd[31m 1937." in shown  # no control character reaches the terminal
    assert "c.jsonl:3" in shown
    assert "left out: it is longer than 96 tokens" in shown
    assert "3 conversations" in shown
    assert "\x1b" not in shown
    assert "何时" in run(base, conversations, "--show-masks", "1")
    assert "When" not in run(base, conversations, "--show-masks", "1")


def test_without_a_number_a_few_are_shown(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text('{"instruction": "q?", "output": "a"}\n' * 9)
    assert "\n5 conversations" in run(base, path, "--show-masks")
    assert "\n5 conversations" in run(base, path, "--show-masks", "--set", "context=50")


def test_what_training_leaves_out_is_said_to_be(base: Path, tmp_path: Path) -> None:
    """Cut at the first answer, nothing is left of the last one, which alone is asked for."""
    turns = [("user", "a?"), ("assistant", "b"), ("user", "c? " * 90), ("assistant", "d")]
    messages = [{"role": role, "content": content} for role, content in turns]
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"messages": messages}))
    cut = ("--show-masks", "--set", "overlong=truncate")
    assert "left out" not in run(base, path, *cut)
    assert "left out: it has no answer to learn" in run(base, path, *cut, "--set", "train_on=last")


def test_rows_that_training_refuses_are_not_shown(base: Path, conversations: Path) -> None:
    with pytest.raises(InputError, match="context = 97 exceeds the model's 96"):
        run(base, conversations, "--show-masks", "--set", "context=97")


def test_as_json_every_token_is_counted(base: Path, conversations: Path) -> None:
    shown = json.loads(run(base, conversations, "--show-masks", "3", "--json"))
    first = shown["conversations"][0]
    assert first["parts"][-1] == {"text": "1937年。<|im_end|>", "learnt": True}
    assert shown["tokens"] == sum(one["tokens"] for one in shown["conversations"])
    assert 0 < first["learnt"] < first["tokens"]


def test_nothing_is_written_and_out_is_asked_for(
    base: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    run(base, conversations, "--show-masks", "1")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="--out is missing"):
        CliRunner().invoke(
            command,
            ["--model", str(base), "--conversations", str(conversations)],
            catch_exceptions=False,
        )
