"""``fledge scale`` and ``fledge verify`` from the command line: output, exit codes, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fledge.cli.main import main
from pico_model import write_pico_model
from pico_shards import pattern_shards, write_tokenizer

LADDER = (
    *("--set", "sizes=[[1, 16], [1, 32]]", "--set", "scale.tokens=[512, 1024, 2048]"),
    *("--set", "held_out=[2, 32]", "--set", "draws=50", "--set", "pretrain.context=16"),
    *("--set", "pretrain.batch_rows=4", "--set", "pretrain.compile=false"),
)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture
def ladder(tmp_path: Path) -> tuple[str, ...]:
    tokens = pattern_shards(tmp_path / "tokens", documents=240)
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    return ("scale", str(tokens), "--tokenizer", str(tokenizer), *LADDER)


def test_scale_from_shards_to_page(
    ladder: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    code, shown, err = call(capsys, *ladder, "--out", out, "--budget", "1e9", "--hours", "2")
    assert code == 0, err
    assert "95 % intervals" in shown
    assert "measured" in shown
    assert "C = 1.00e+09" in shown
    assert "2 h at" in shown
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!DOCTYPE html>")
    code, printed, err = call(capsys, *ladder, "--out", out, "--json")
    assert code == 0, err
    [line] = printed.splitlines()
    assert json.loads(line) == json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert "pretrain" not in err, "finished runs are not trained again"


def test_scale_never_takes_a_users_folder(
    ladder: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    for out in (mine, tmp_path, tmp_path / "tokens", mine / "thesis.txt"):
        code, _, err = call(capsys, *ladder, "--out", str(out))
        assert code == 2, err
        assert "name a" in err
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "horizon=3"), "horizons"),
        (("--set", "scale=3"), "scale.KEY"),
        (("--set", "flops"), "no key and value"),
        (("--budget", "0"), "budget"),
        (("--hours", "-1"), "hours"),
    ],
)
def test_scale_names_what_is_wrong(
    words: tuple[str, ...],
    message: str,
    ladder: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = call(capsys, *ladder, "--out", str(tmp_path / "out"), *words)
    assert code == 2
    assert message in err


def test_verify_a_checkpoint_and_conversations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = write_pico_model(tmp_path)
    talk, more = tmp_path / "talk.jsonl", tmp_path / "more.jsonl"
    for path in (talk, more):
        path.write_text('{"instruction": "Say yes", "output": "yes"}\n')
    words = ("verify", str(stage), "--quick", "--conversations", str(talk), str(more))
    code, out, err = call(capsys, *words)
    assert code == 0, out + err
    assert "2 answers in 2 conversations" in out
    assert ", 0 failed" in out


def test_verify_json_names_the_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = write_pico_model(tmp_path)
    path = stage / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] = torch.inf
    save_file(weights, path)
    code, out, _ = call(capsys, "verify", str(stage), "--quick", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert all(set(row) == {"name", "ok", "compared"} for row in rows)
    [found] = [row for row in rows if row["name"] == "finite-weights"]
    assert found["ok"] is False
    assert "norm.weight" in found["compared"]


def test_verify_files_after_conversations_need_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name in ("one", "two"):
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text('{"instruction": "Say yes", "output": "yes"}\n')
    code, out, err = call(capsys, "verify", "--quick", "--conversations", *map(str, files))
    assert code == 0, out + err
    assert "2 answers in 2 conversations" in out


def test_verify_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "verify", str(tmp_path / "none"))
    assert code == 2
    assert "does not exist" in err
    (tmp_path / "a.jsonl").write_text("{}\n")
    code, _, err = call(capsys, "verify", str(tmp_path), str(tmp_path / "a.jsonl"))
    assert code == 2
    assert "--conversations" in err
