"""States of several processes: read by any number of them, whole or not at all, after any kill."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import STEPS, launch, losses, run_several, toy_training, weights

from fledge.core.protocols import Silent
from fledge.train.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OFTEN = {"checkpoint_every_steps": 5}


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def states(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "state").iterdir() if path.name != "good")


def run(processes: int, out: Path, *torchrun: str, **options: Any) -> str:
    """To the end, by so many processes."""
    if processes == 1:
        toy_training(out, **options)
        return ""
    code, printed = run_several(processes, out, *torchrun, **options)
    assert code == 0, printed
    return printed


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing disturbed."""
    out = tmp_path_factory.mktemp("two")
    run(2, out, **OFTEN)
    return out


def assert_same_end(one: Path, other: Path) -> None:
    """To the last bit."""
    assert losses(one) == losses(other)
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_state_is_read_by_one_two_four_and_again_one(tmp_path: Path, optimizer: str) -> None:
    options = {"optimizer": optimizer, "ema": 0.9, "learning_rate": 2e-3}
    run(1, tmp_path / "one", **options)
    out = tmp_path / "relay"
    for processes, stop in {1: 12, 2: 24, 4: 36}.items():
        # Killed a little behind ``stop``, having saved there.
        saving = {**options, "checkpoint_every_steps": stop, "kill": [0, stop + 4]}
        code, printed = run_several(processes, out, **saving)
        assert code != 0
        assert (out / "killed").exists(), printed
        (out / "killed").unlink()
        assert states(out)[-1] == f"step-{stop:09d}" + (".pt" if processes == 1 else "")
    run(1, out, **options)
    assert len(losses(out)) == STEPS
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_killed_with_a_blow_it_stops_and_ends_the_same_when_run_again(
    tmp_path: Path, two: Path
) -> None:
    begun = time.monotonic()
    code, printed = run_several(2, tmp_path, kill=[1, 23], **OFTEN)
    assert code != 0
    assert time.monotonic() - begun < 150  # bounded: nobody waits for the dead
    assert "another process of this run stopped" in printed or "SIGTERM" in printed, printed
    assert not (tmp_path / "weights.pt").exists()
    run(2, tmp_path, **OFTEN)
    assert_same_end(tmp_path, two)


def test_torchrun_restarts_a_killed_run_by_itself(tmp_path: Path, two: Path) -> None:
    run(2, tmp_path, "--max-restarts", "1", kill=[0, 31], **OFTEN)
    assert (tmp_path / "killed").exists()
    assert_same_end(tmp_path, two)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_once_and_all_exit_130(tmp_path: Path, two: Path, number: int) -> None:
    running = launch(2, tmp_path, crawl=0.1)
    deadline = time.monotonic() + 100
    while not (tmp_path / "loss.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    if number == signal.SIGINT:
        os.killpg(running.pid, number)  # as the terminal does; torchrun sends it once more
    else:
        running.send_signal(number)
    printed, _ = running.communicate(timeout=100)
    assert running.returncode != 0
    assert "Traceback (most recent call last):\n  File" not in printed.split("torch/distributed")[0]
    assert len(states(tmp_path)) == 1, printed
    assert not (tmp_path / "weights.pt").exists()
    run(2, tmp_path, **OFTEN)
    assert_same_end(tmp_path, two)


def test_a_broken_newest_state_is_passed_over_and_that_is_said(tmp_path: Path, two: Path) -> None:
    for name in (".metadata", "__1_0.distcp", "rest.pt"):
        out = tmp_path / name
        shutil.copytree(two, out)
        newest = out / "state" / states(out)[-1]
        broken = newest / name
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
        heard = Listening()
        state = Checkpoints(out / "state", heard).load()
        assert state is not None
        assert state["position"]["step"] == STEPS - 5
        assert heard.lines == [f"the saved state {newest} is broken and removed"]
    # Two processes agree on it, too, also where only one of them can see the damage.
    shutil.copytree(two, tmp_path / "again")
    newest = tmp_path / "again" / "state" / states(two)[-1]
    (newest / "__1_0.distcp").unlink()
    (tmp_path / "again" / "weights.pt").unlink()
    run(2, tmp_path / "again", **OFTEN)
    assert_same_end(tmp_path / "again", two)


def test_a_full_disk_is_said_and_the_state_before_stays_whole(tmp_path: Path, two: Path) -> None:
    code, printed = run_several(2, tmp_path, full=True, **OFTEN)
    assert code != 0
    assert "the training state cannot be saved" in printed
    assert "No space left on device" in printed
    assert states(tmp_path) == ["step-000000005"]
    run(2, tmp_path, **OFTEN)
    assert_same_end(tmp_path, two)


def test_the_last_two_are_kept_and_leftovers_go(two: Path, tmp_path: Path) -> None:
    assert states(two) == ["step-000000045", "step-000000050"]
    shutil.copytree(two, tmp_path / "out")
    folder = tmp_path / "out" / "state"
    (folder / ".step-000000050.new").mkdir()
    # Killed between two renames: the former one comes back.
    (folder / "step-000000050").rename(folder / ".step-000000050.old")
    state = Checkpoints(folder).load()
    assert state is not None
    assert state["position"]["step"] == STEPS
    assert states(tmp_path / "out") == ["step-000000045", "step-000000050"]
