"""Of several answers the best is kept to learn, and best against worst as a pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scripted_model import CUT, Scripted

from fledge.cli import synthesize as door
from fledge.cli.data import command
from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.preference_forms import parse_preference
from fledge.data.sifting import ScoreError
from fledge.data.synthesis.asking import UnusableError
from fledge.data.synthesis.inputs import Question
from fledge.data.synthesis.rejection import (
    RejectionConfig,
    by_majority,
    by_score,
    by_target,
    rejection,
)
from fledge.data.synthesis.run import Task

QUESTION = Question(messages=(Message(role="user", content="2 + 2?"),), target="4", origin="f:1")


def make(answers: Sequence[str], scorer: Any, **config: Any) -> dict[str, Any]:
    left = list(answers)
    model = Scripted(lambda prompt, seed: left.pop(0))
    settings = RejectionConfig(answers=len(answers), **config)
    [row] = rejection(model, scorer, settings)(Task(key="f:1", input=QUESTION))
    assert len({seed for _, seed in model.asked}) == len(answers)
    return row


def length(messages: Sequence[Message], answer: str) -> float:
    if answer == "?":
        raise ScoreError("no score")
    return float(len(answer))


def test_the_best_is_learnt_and_the_worst_rejected() -> None:
    row = make(["bb", "dddd", "?", CUT, "a"], by_score(length))
    assert row["best"]["messages"][-1]["content"] == "dddd"
    told = row["best"]["metadata"]
    assert (told["score"], told["scores"], told["method"]) == (4.0, [2.0, 4.0, 1.0], "sample")
    pair = parse_preference(row["pair"])
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == ("dddd", "a", 3.0)
    assert pair.prompt == QUESTION.messages


def test_what_is_not_good_or_not_better_is_left_out() -> None:
    row = make(["aa", "bb"], by_score(length))
    assert row["pair"] is None
    assert row["best"] is not None
    row = make(["aa", "bbbb"], by_score(length), min_score=5.0)
    assert row["best"] is None
    assert row["pair"] is not None
    assert make(["aa", "bbb"], by_score(length), min_margin=1.5)["pair"] is None
    with pytest.raises(UnusableError, match="no_score"):
        make(["?", "?"], by_score(length))
    with pytest.raises(UnusableError, match="cut_off"):
        make([CUT, CUT], by_score(length))


def test_known_and_most_frequent_results_score() -> None:
    wrong = "It is 4.\nAnswer: 5"
    assert by_target(QUESTION, ["So.\nAnswer: 4.0", "5", "It is 4.", wrong]) == [1.0, 0.0, 1.0, 0.0]
    where = Question(messages=QUESTION.messages, target="Old Bridge")
    assert by_target(where, ["At the old bridge.", "New Bridge"]) == [1.0, 0.0]
    assert by_majority(QUESTION, ["5", "Answer: 5", "4", "so\nso"]) == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(UnusableError, match="no_target"):
        by_target(Question(messages=QUESTION.messages), ["4"])
    with pytest.raises(UnusableError, match="no_final_answer"):
        by_majority(QUESTION, ["a\nb"])


def says(prompt: str, seed: int) -> str:
    if "Score: N" in prompt:
        return "Fine.\nScore: 9" if "Answer:\nFour" in prompt else "Wrong.\nScore: 2"
    return "Four." if seed % 2 else "Five."


def run(*words: object) -> str:
    arguments = [str(word) for word in words]
    return CliRunner().invoke(
        command, arguments, catch_exceptions=False, standalone_mode=False
    ).stdout  # fmt: skip


def test_the_doors_write_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_open", lambda spec, key: Scripted(says))
    monkeypatch.chdir(tmp_path)  # what is drawn depends on where a prompt is from
    path, out = Path("q.jsonl"), Path("out")
    path.write_text("".join(f'{{"prompt": "2 + 2? ({n})"}}\n' for n in range(5)))
    words = ("sample", "--prompts", path, "--model", "m", "--out", out, "--answers", 6)
    told = json.loads(run(*words, "--json"))
    assert told["tasks"] == told["written"]["best.jsonl"] == told["written"]["pairs.jsonl"] == 5
    lines = (out / "pairs.jsonl").read_text().splitlines()
    pairs = [parse_preference(json.loads(line)) for line in lines]
    assert {(one.chosen[0].content, one.rejected[0].content, one.margin) for one in pairs} == {
        ("Four.", "Five.", 7.0)
    }
    assert "5 rows in" in run(*words)
    with pytest.raises(InputError, match="holds a run with another answers: 6, not 7"):
        run(*words[:-1], 7)
    with pytest.raises(InputError, match="--judge does not go with --by target"):
        run(*words, "--by", "target", "--judge", "m")
    with pytest.raises(InputError, match="--parallel is for a model behind a URL"):
        run(*words, "--parallel", 2)


def test_synthesize_writes_rows_with_how_they_came_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_open", lambda spec, key: Scripted(lambda p, s: "So.\nAnswer: 4"))
    path, out = tmp_path / "q.jsonl", tmp_path / "out"
    path.write_text('{"prompt": "2 + 2?"}\n{"prompt": "3 + 1?", "target": "5"}\n')
    words = ("synthesize", "chain-of-thought", "--input", path, "--model", "m", "--out", out)
    shown = run(*words, "--seed", 3, "--set", "votes=2")
    assert "1 rows in" in shown
    assert "1 tasks unusable: wrong_answer" in shown
    [row] = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert row["metadata"] == {
        "method": "chain-of-thought", "model": "scripted", "seed": 3, "origin": f"{path}:1",
        "votes": 2, "agreement": 1.0,
    }  # fmt: skip


def test_clean_keeps_what_the_judge_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_open", lambda spec, key: Scripted(says))
    path, out = tmp_path / "c.jsonl", tmp_path / "out"
    rows = [{"prompt": "2 + 2?", "completion": answer} for answer in ("Four.", "Five.")]
    path.write_text("\n".join(map(json.dumps, rows)))
    words = ("clean", path, "--out", out, "--judge", "m", "--set", "min_score=6", "--json")
    assert json.loads(run(*words))["dropped"] == {"score.low": 1}
    assert json.loads((out / "kept.jsonl").read_text()) == rows[0]
