"""kill -9 at twenty random moments of pretraining and fine-tuning: the result is the same bits."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
from tiny_run import run, stop_during

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TRIALS = 10
"""Of each stage."""
OFTEN = (
    *("--set", "pretrain.tokens=100_000", "--set", "pretrain.checkpoint_every_steps=7"),
    *("--set", "sft.checkpoint_every_steps=3"),
)


def digest(runs: Path, stage: str) -> str:
    manifest = json.loads((runs / "bridges" / stage / "manifest.json").read_text())
    return str(manifest["digest"])


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_kill_at_a_random_step_changes_nothing(tmp_path: Path, stage: str) -> None:
    whole = tmp_path / "whole"
    done = run(whole, *OFTEN, "--until", stage)
    assert done.returncode == 0, done.stderr
    wanted = digest(whole, stage)
    before = tmp_path / "before"
    shutil.copytree(whole, before)
    shutil.rmtree(before / "bridges" / stage)
    dice, killed = random.Random(stage), 0
    for trial in range(TRIALS):
        runs = tmp_path / f"trial-{trial}"
        shutil.copytree(before, runs)
        killed += stop_during(runs, stage, signal.SIGKILL, dice.uniform(0, 6), *OFTEN) != 0
        done = run(runs, *OFTEN, "--until", stage)
        assert done.returncode == 0, done.stderr
        assert digest(runs, stage) == wanted, f"trial {trial}"
        shutil.rmtree(runs)
    assert killed >= TRIALS // 2, "too few kills came in time to say anything"
