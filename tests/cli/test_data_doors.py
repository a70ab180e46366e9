"""``fledge data``: what is printed, what is written, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fledge.cli.data import command
from fledge.cli.row_view import marked
from fledge.core.errors import InputError
from pico_model import write_pico_model

PAIR = {"prompt": "When did it open?", "chosen": "In May 1937.", "rejected": "In June 1937."}


def run(*words: object) -> Result:
    """The result; its ``return_value`` is the exit code, None for 0."""
    return CliRunner().invoke(
        command, [str(word) for word in words], catch_exceptions=False, standalone_mode=False
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    evil = {**PAIR, "chosen": "In\x1b[31m May\x07 1937.", "margin": 1.5}
    rows = [PAIR, {**PAIR, "rejected": PAIR["chosen"]}, {**PAIR, "chosen": 3}, evil]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return path


def test_check_names_faults_and_warnings_and_fails(pairs: Path) -> None:
    done = run("check", pairs)
    assert done.return_value == 1
    assert "5 rows of kind preference, 2 faulty" in done.output
    assert "pairs.jsonl:3: 'chosen' must be text" in done.output
    assert "pairs.jsonl:5: not JSON" in done.output
    assert "warning: 1 rows: chosen and rejected are identical\n  pairs.jsonl:2" in done.output
    assert "and 1 more" in run("check", pairs, "--errors", "1").output


def test_check_in_json_and_in_tokens(pairs: Path, tmp_path: Path) -> None:
    model = write_pico_model(tmp_path, stage="sft")
    done = run("check", pairs, "--model", model, "--longest", "8", "--json")
    told = json.loads(done.stdout)
    assert (told["rows"], told["faulty"], told["unit"]) == (5, 2, "tokens")
    assert told["warnings"]["long"]["count"] == 3
    assert told["lengths"]["whole"]["least"] > 8
    good = tmp_path / "good.jsonl"
    good.write_text(json.dumps(PAIR))
    assert run("check", good, "--model", model).return_value == 0


def test_show_marks_differences_and_lets_no_control_character_through(pairs: Path) -> None:
    shown = run("show", pairs, "--count", "9").output
    assert "In ⟦May⟧ 1937." in shown
    assert "(identical) In May 1937." in shown
    assert "cannot be read: 'chosen' must be text" in shown
    assert "chosen (by 1.5)" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "In\ufffd[31m" in shown
    only = run("show", pairs, "--at", "2", "--count", "1").output
    assert ":2 " in only
    assert ":1 " not in only
    with pytest.raises(InputError, match="fewer than 7 rows"):
        run("show", pairs, "--at", "7")


def test_show_tells_roles_judgements_and_what_is_not_learnt(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    turns = [("system", "Be brief."), ("user", "q"), ("assistant", "old"), ("user", "q2")]
    messages = [{"role": role, "content": text} for role, text in turns]
    messages[2]["weight"] = 0  # type: ignore[assignment]
    path.write_text(json.dumps({"messages": messages, "tools": [{"name": "sum"}]}))
    shown = run("show", path).output
    assert "tools: sum" in shown
    assert "assistant (not learnt)\nold" in shown
    path.write_text(json.dumps({"prompt": "q", "completion": "a", "label": False}))
    assert "judged bad" in run("show", path).output


def test_words_of_both_scripts_are_compared_and_strangers_left_alone() -> None:
    left, right = marked("这座桥于1937年建成。", "这座桥于1973年建成。")
    assert left.plain == "这座桥于⟦1937⟧年建成。"
    assert "⟦1973⟧" in right.plain
    left, right = marked("Yes.", "No, it was not.")
    assert (left.plain, right.plain) == ("Yes.", "No, it was not.")


def test_convert_writes_reads_back_and_refuses(pairs: Path, tmp_path: Path) -> None:
    good, out = tmp_path / "good.jsonl", tmp_path / "out.jsonl"
    good.write_text(json.dumps(PAIR) + "\n" + json.dumps(PAIR))
    assert "4 rows written" in run("convert", good, "--to", "judged", "--out", out).output
    lines = out.read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [True, False] * 2
    run("convert", good, "--to", "alpaca", "--best", "--out", out)
    assert json.loads(out.read_text().splitlines()[0])["output"] == "In May 1937."
    before = out.read_text()
    with pytest.raises(InputError, match=r"good.jsonl:1: the form messages cannot hold two"):
        run("convert", good, "--to", "messages", "--out", out)
    assert out.read_text() == before  # nothing was half written
    done = run("convert", good, "--to", "messages", "--skip", "--out", out).output
    assert "0 rows written" in done
    assert "2 left out" in done
    with pytest.raises(InputError, match="is the source itself"):
        run("convert", good, "--to", "judged", "--out", good)
    with pytest.raises(InputError, match=r"pairs.jsonl:3: 'chosen'"):
        run("convert", pairs, "--to", "judged", "--out", out)
