"""A whole recipe under torchrun: the training stages together, the rest by one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_run import command, environment, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EXACT = (
    "--set", "pretrain.precision=fp32", "--set", "pretrain.compile=false",
    "--set", "pretrain.validate_every=40", "--set", "pretrain.tokens=400_000",
    "--set", "sft.precision=fp32", "--set", "sft.compile=false",
)  # fmt: skip


def several(runs: Path, *more: str, log: Path | None = None) -> list[str]:
    """The same command, twice at once.  ``log``: a folder for what each process says."""
    python, *rest = command(runs, *EXACT, *more)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    if log is not None:
        torchrun += ["--log-dir", str(log), "--redirects", "3"]
    return [python, *torchrun, *rest]


def run_several(
    runs: Path, *more: str, log: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        several(runs, *more, log=log),
        capture_output=True,
        text=True,
        timeout=400,
        env=environment(),
    )


def curve(runs: Path, stage: str) -> list[float]:
    lines = (runs / "bridges" / stage / "loss.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def manifests(runs: Path) -> dict[str, dict[str, object]]:
    found = (json.loads(p.read_text()) for p in (runs / "bridges").glob("*/manifest.json"))
    return {manifest["stage"]: manifest for manifest in found}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that two processes ran."""
    runs = tmp_path_factory.mktemp("together")
    done = run_several(runs)
    assert done.returncode == 0, done.stdout + done.stderr
    # What is said, is said once.
    assert done.stderr.count("pretrain: starting") == 1
    assert done.stderr.count("corpus: done in") == 1
    assert done.stdout == ""
    return runs


def test_the_result_is_that_of_one_process(tmp_path: Path, together: Path) -> None:
    done = run(tmp_path, *EXACT)
    assert done.returncode == 0, done.stderr
    ours, theirs = manifests(together), manifests(tmp_path)
    assert ours.keys() == theirs.keys()
    for stage in ("samples", "corpus", "tokenizer", "tokens"):
        assert ours[stage]["digest"] == theirs[stage]["digest"]
    assert curve(together, "pretrain") == pytest.approx(curve(tmp_path, "pretrain"), abs=1e-3)
    assert ours["pretrain"]["counts"] == theirs["pretrain"]["counts"]
    assert ours["pretrain"]["figures"] == pytest.approx(theirs["pretrain"]["figures"], rel=1e-3)
    model = together / "bridges" / "sft" / "model"
    answer = subprocess.run(
        [*command(tmp_path)[:3], "generate", "--model", str(model), "--prompt", "The"],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(),
    )
    assert answer.returncode == 0, answer.stderr


def test_run_again_it_is_done(together: Path) -> None:
    again = run_several(together, "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("pretrain: done before, unchanged") == 1
    stages = [json.loads(line)["stage"] for line in again.stdout.splitlines()]
    assert len(stages) == len(set(stages)) == 7


def test_killed_and_run_again_it_ends_the_same(tmp_path: Path, together: Path) -> None:
    every = ("--set", "pretrain.checkpoint_every_steps=20")
    process = subprocess.Popen(
        several(tmp_path, *every),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    state = tmp_path / "bridges" / "pretrain.partial" / "state" / "step-000000020"
    deadline = time.monotonic() + 300
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state.exists()
    os.kill(_last_child(process.pid), signal.SIGKILL)
    assert process.wait(timeout=100) != 0
    done = run_several(tmp_path, *every)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pretrain: going on where it stopped") == 1
    ours, theirs = manifests(tmp_path), manifests(together)
    assert ours["pretrain"]["digest"] == theirs["pretrain"]["digest"]
    assert ours["sft"]["digest"] == theirs["sft"]["digest"]


def _last_child(parent: int) -> int:
    """The last process that torchrun has started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[-1])


def test_what_one_process_fails_at_ends_all_with_its_message(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run_several(
        tmp_path / "runs", "--set", "corpus.input=/nowhere/at-all", "--until", "corpus", log=log
    )
    assert done.returncode != 0
    first, second = sorted(path.read_text() for path in log.rglob("stderr.log"))
    assert (first + second).count("fledge: input '/nowhere/at-all' matches no file") == 1
    assert "Traceback" not in first + second
    assert "exitcode  : 2" in done.stderr
