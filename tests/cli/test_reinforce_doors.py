"""``fledge grpo`` and ``fledge ppo``: a stage by itself, answers shown, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fledge.cli.main import main
from fledge.cli.stages import STAGES
from pico_model import write_pico_model

SMALL = (
    "--set=batch_rows=4",
    "--set=group=4",
    "--set=max_new_tokens=4",
    "--set=steps=1",
    "--set=threads=1",
    "--set=held_out=0.0",
    "--set=verifier=length",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "p.jsonl"
    row = {"messages": [{"role": "user", "content": "Say \x1b[31mit"}], "most_characters": 1}
    path.write_text(json.dumps(row) + "\n")
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_a_stage_by_itself_leaves_a_model(
    stage: str, model: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = (stage, "--model", str(model), "--prompts", str(prompts), "--out", str(out), *SMALL)
    code, printed, err = call(capsys, *arguments, "--json")
    assert code == 0, err
    row = json.loads(printed)
    assert row["stage"] == stage
    assert row["counts"]["steps"] == 1
    assert (out / "model" / "model.safetensors").is_file()
    assert (out / "rollouts" / "step-000001.jsonl").is_file()
    assert "tokenizer.json" in {path.name for path in (out / "model").iterdir()}
    code, _, err = call(capsys, *arguments)
    assert code == 0
    assert "done before, unchanged" in err


def test_rollouts_are_shown_with_their_rewards(
    model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ("grpo", "--model", str(model), "--prompts", str(prompts), "--show-rollouts", "3")
    code, printed, err = call(capsys, *shown, *SMALL)
    assert code == 0, err
    assert "3 answers, mean reward -" in printed
    assert "task -" in printed
    assert "\x1b" not in printed
    code, printed, _ = call(capsys, *shown, *SMALL, "--json")
    rows = json.loads(printed)["rollouts"]
    assert len(rows) == 3
    assert {"messages", "answer", "reward", "scores", "reasons"} <= set(rows[0])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ((), "--out is missing"),
        (("--show-rollouts", "1", "--set", "grup=2"), "did you mean 'group'"),
        ((*SMALL, "--show-rollouts", "1", "--set", "verifier=exakt"), "did you mean 'exact'"),
        (("--show-rollouts", "1", "--set", "group=3"), "must divide batch_rows"),
    ],
)
def test_wrong_usage_is_refused(
    more: tuple[str, ...],
    why: str,
    model: Path,
    prompts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = call(capsys, "grpo", "--model", str(model), "--prompts", str(prompts), *more)
    assert code == 2
    assert why in err


def test_prompts_that_are_no_file_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("grpo", "--model", str(model), "--prompts", "nowhere.jsonl")
    code, _, err = call(capsys, *arguments, "--out", str(tmp_path / "o"))
    assert code == 2
    assert "nowhere.jsonl is no file" in err
    code, _, err = call(capsys, *arguments, *SMALL, "--show-rollouts")
    assert code == 2
    assert "nowhere.jsonl does not exist" in err


def test_the_rungs_of_a_recipe_follow_each_other() -> None:
    order = [name for name in STAGES if name in ("pretrain", "sft", "grpo", "ppo", "evals")]
    assert order == ["pretrain", "sft", "grpo", "ppo", "evals"]
    assert STAGES["ppo"].reads[-1] == "grpo"
    assert {"sft", "grpo", "ppo"} <= set(STAGES["evals"].reads)
