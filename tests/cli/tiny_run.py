"""The demo recipe in the smallest size that still runs every stage, as a subprocess."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "bridges.toml"
TINY = (
    "samples.bridges=4",
    "samples.pages_per_bridge=8",
    "samples.specification=false",
    "samples.calculations_per_bridge=2",
    "samples.howtos=24",
    "samples.practice=32",
    "samples.reading=24",
    "samples.unseen_bridges=2",
    "samples.unseen_pages_per_bridge=1",
    "samples.fact_prompts=24",
    "samples.preferences=60",
    "samples.honesty_facts=24",
    "tokenizer.vocab_size=640",
    "pretrain.depth=1",
    "pretrain.width=64",
    "pretrain.kv_heads=1",
    "pretrain.tokens=40_000",
    "pretrain.batch_rows=8",
    "sft.epochs=1",
    "sft.batch_rows=8",
    "honesty.epochs=1",
    "honesty.batch_rows=8",
    "honesty.rehearse=8",
    "grpo.steps=2",
    "grpo.batch_rows=8",
    "evals.limit=6",
    "ground.limit=6",
)


def command(runs: Path, *more: str) -> list[str]:
    """``fledge run`` of the tiny recipe into ``runs``."""
    sets = [part for override in TINY for part in ("--set", override)]
    return [sys.executable, "-m", "fledge", "run", str(RECIPE), "--runs", str(runs), *sets, *more]


def run(runs: Path, *more: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command(runs, *more), capture_output=True, text=True, timeout=timeout, env=environment()
    )


def environment() -> dict[str, str]:
    """One thread: tests share the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def stop_during(runs: Path, stage: str, number: int, after: float, *more: str) -> int:
    """Start a run, send signal ``number`` ``after`` seconds into ``stage``; the exit code."""
    process = subprocess.Popen(
        command(runs, *more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    partial = runs / "bridges" / f"{stage}.partial" / "stage.json"
    deadline = time.monotonic() + 200
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert partial.exists(), f"{stage} never began"
    time.sleep(after)
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.wait(timeout=60)
