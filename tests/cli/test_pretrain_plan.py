"""``fledge pretrain --dry-run``: what would be done, without doing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fledge.cli.main import main
from pico_shards import VOCAB, pattern_shards, write_tokenizer

Call = tuple[int, str, str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pattern_shards(tmp_path / "tokens")
    write_tokenizer(tmp_path / "tokenizer")
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Call:
    folders = ("--tokens", "tokens", "--tokenizer", "tokenizer", "--out", "out")
    with pytest.raises(SystemExit) as stop:
        main(("pretrain", *folders, "--dry-run", *arguments))
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_a_dry_run_says_what_is_given_and_what_is_derived(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "--depth", "2", "--set", "learning_rate=0.003")
    assert code == 0, err
    found = {line.split()[0]: line.split(None, 2)[1:] for line in out.splitlines()}
    assert found["depth"] == ["2", "given"]
    assert found["width"] == ["128", "64 x depth"]
    assert found["learning_rate"] == ["0.003", "given"]
    assert found["vocab_size"][0] == str(VOCAB)
    assert not (place / "out").exists()


def test_a_dry_run_is_one_json_object_when_asked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "--set", "steps=7", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["steps"] == {"value": 7, "rule": "given"}
    assert record["tokens"]["value"] == 7 * record["batch_rows"]["value"] * 256


def test_what_cannot_be_planned_is_an_input_error(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tokenizer" / "tokenizer.json").unlink()
    code, _, err = call(capsys)
    assert code == 2
    assert "no tokenizer.json" in err
    code, _, err = call(capsys, "--set", "widht=7")
    assert code == 2
    assert "width" in err
