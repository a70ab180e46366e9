"""``fledge dpo`` and ``fledge reward``: what is shown, run, refused; both as stages of a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fledge.cli.main import fledge as doors
from fledge.core.errors import InputError
from fledge.core.run import StageFolder, read_manifest
from pico_model import write_pico_model
from pico_pairs import polite_pairs, write_rows

QUICK = ("--set", "steps=2", "--set", "batch_rows=2", "--set", "compile=false")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


def call(*words: object) -> Result:
    return CliRunner().invoke(doors, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_it_runs_and_is_skipped_when_nothing_changed(
    stage: str, base: Path, tmp_path: Path
) -> None:
    pairs, out = polite_pairs(tmp_path / "p.jsonl", 20), tmp_path / "out"
    words = (stage, "--model", base, "--preferences", pairs, "--out", out, *QUICK, "--json")
    done = call(*words)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["stage"] == stage
    assert told["counts"]["steps"] == 2
    assert f"{stage}.accuracy" in told["figures"]
    assert "done before, unchanged" in call(*words).stderr
    manifest = read_manifest(StageFolder(tmp_path, "out").final)
    assert manifest is not None
    assert manifest["figures"] == told["figures"]


def test_pairs_are_shown_as_they_are_read(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "When?", "chosen": "In\x1b[31m 1937.", "rejected": "No."},
        {"prompt": "Who? " * 200, "chosen": "A.", "rejected": "B."},
        {"prompt": "a?", "chosen": "b", "rejected": "b"},
    ]
    words = ("dpo", "--model", base, "--preferences", write_rows(tmp_path / "p.jsonl", rows))
    shown = call(*words, "--show").output
    assert "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n⟦In\ufffd[31m 1937." in shown
    assert "⟦No.<|im_end|>⟧" in shown
    assert "left out: it is longer than 96 tokens" in shown
    assert "left out: it has two answers that read the same" in shown
    assert "\x1b" not in shown
    cut = call(*words, "--show", "2", "--set", "overlong=truncate").output
    assert "its prompt is cut from the left" in cut
    told = [json.loads(line) for line in call(*words, "--show", "3", "--json").stdout.splitlines()]
    assert [one["left_out"] != "" for one in told] == [False, True, True]
    first = told[0]["answers"][1]
    assert first["side"] == "rejected"
    assert first["parts"][-1] == {"text": "No.<|im_end|>", "counts": True}
    assert "No." in call("reward", *words[1:], "--show", "1").output


def test_judged_answers_are_shown_for_kto(base: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "j.jsonl", [{"prompt": "a?", "completion": "b", "label": False}])
    shown = call("dpo", "--model", base, "--preferences", file, "--set", "loss=kto", "--show")
    assert "rejected: " in shown.output


def test_what_is_missing_is_said(base: Path, tmp_path: Path) -> None:
    pairs = polite_pairs(tmp_path / "p.jsonl", 5)
    with pytest.raises(InputError, match="--out is missing"):
        call("dpo", "--model", base, "--preferences", pairs)
    with pytest.raises(InputError, match="is no file"):
        call("dpo", "--model", base, "--preferences", tmp_path / "no", "--out", tmp_path / "out")
    with pytest.raises(InputError, match="did you mean 'beta'"):
        call("dpo", "--model", base, "--preferences", pairs, "--out", tmp_path / "o",
             "--set", "betta=1")  # fmt: skip
