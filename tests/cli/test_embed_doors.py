"""``fledge embed``: train, mine, eval from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fledge.cli.main import main
from fledge.core.files import read_json, read_jsonl, write_jsonl
from pico_embedder import sentences, words

SETTINGS = ("table.dimensions=16", "batch_rows=16", "epochs=5", "learning_rate=0.02", "threads=1")


def fledge(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["embed", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_jsonl(file, [*words(), *sentences(120)])
    return file


@pytest.fixture(scope="module")
def trained(pairs: Path) -> Path:
    out = pairs.parent / "out"
    settings = [part for one in SETTINGS for part in ("--set", one)]
    assert fledge("train", "--pairs", str(pairs), "--out", str(out), *settings) == 0
    return out


def test_train_leaves_a_model_and_a_manifest(trained: Path) -> None:
    manifest = read_json(trained / "manifest.json")
    assert manifest["stage"] == "embedder"
    assert manifest["figures"]["embedder.mrr"] > manifest["figures"]["embedder.mrr_before"]
    assert manifest["counts"]["dimensions"] == 16
    assert "model/model.safetensors" in manifest["outputs"]


def test_mine_then_train_on_from_the_model(
    pairs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mined = tmp_path / "mined.jsonl"
    model = ("--model", str(trained))
    assert fledge("mine", "--pairs", str(pairs), *model, "--out", str(mined)) == 0
    rows = list(read_jsonl(mined))
    assert len(rows) == 135
    assert sum(bool(row.get("negatives")) for row in rows) > 60
    capsys.readouterr()
    out = tmp_path / "out"
    more = ("--set", "negatives=2", "--set", "epochs=1", "--set", "batch_rows=16", "--json")
    assert fledge("train", "--pairs", str(mined), *model, "--out", str(out), *more) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stage"] == "embedder"
    assert told["counts"]["steps"] > 0


def test_eval_tells_each_source(
    pairs: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert fledge("eval", "--pairs", str(pairs), "--model", str(trained / "model"), "--json") == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["source"] == "pairs"
    assert row["queries"] == 135
    assert row["mrr_ci95"][0] <= row["mrr"] <= row["mrr_ci95"][1]
    assert fledge("eval", "--pairs", str(pairs), "--model", str(trained)) == 0
    assert "hit@10" in capsys.readouterr().out


def test_bad_input_is_told_in_one_line(
    pairs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"query": "a", "positive": "b"}\n{"query": "a"}\n', encoding="utf-8")
    out = ("--out", str(tmp_path / "out"))
    assert fledge("train", "--pairs", str(bad), *out) == 2
    assert "bad.jsonl" in capsys.readouterr().err
    assert fledge("train", "--pairs", str(pairs), "--model", str(tmp_path), *out) == 2
    assert "holds no embedder" in capsys.readouterr().err
    assert fledge("train", "--pairs", str(pairs), *out, "--set", "temprature=1") == 2
    assert "did you mean 'temperature'" in capsys.readouterr().err
    model = ("--model", str(trained))
    assert fledge("mine", "--pairs", str(pairs), *model, "--out", str(pairs)) == 2
    assert "one of the --pairs" in capsys.readouterr().err
