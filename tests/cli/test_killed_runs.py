"""kill -9 and Ctrl-C during any long stage: the same command finishes, with the same result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tiny_run import command, environment, run, stop_during

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = ("corpus", "pretrain", "sft")
SLOWER = ("--set", "pretrain.tokens=200_000", "--set", "pretrain.checkpoint_every_seconds=1")


def digests(runs: Path) -> dict[str, str]:
    found = {}
    for path in sorted((runs / "bridges").glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        found[manifest["stage"]] = manifest["digest"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a run that nothing interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    done = run(runs, *SLOWER)
    assert done.returncode == 0, done.stderr
    return digests(runs)


@pytest.mark.parametrize("stage", LONG)
def test_killed_and_run_again_ends_the_same(
    tmp_path: Path, whole: dict[str, str], stage: str
) -> None:
    for after in (0.4, 3.0):
        code = stop_during(tmp_path, stage, signal.SIGKILL, after, *SLOWER)
        if code == 0:
            break  # it was quicker than the second blow
    done = run(tmp_path, *SLOWER)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path) == whole


def test_ctrl_c_saves_says_so_and_exits_130(tmp_path: Path, whole: dict[str, str]) -> None:
    assert stop_during(tmp_path, "pretrain", signal.SIGINT, 3.0, *SLOWER) == 130
    done = run(tmp_path, *SLOWER)
    assert done.returncode == 0
    assert "pretrain: going on where it stopped" in done.stderr
    assert digests(tmp_path) == whole


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        done = run(small)
        assert done.returncode == 1
        lines = [line for line in done.stderr.splitlines() if line.startswith("fledge: ")]
        assert len(lines) == 1
        assert "disk is full" in lines[0]
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        again = subprocess.run(
            [*command(small), "--until", "tokenizer"],
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert again.returncode == 0, again.stderr
    finally:
        subprocess.run(["umount", str(small)], check=False)
        shutil.rmtree(small, ignore_errors=True)
