"""``fledge dpo`` in two processes: the reference is shared out, the result is that of one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_run import environment

from pico_model import write_pico_model
from pico_pairs import polite_pairs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_the_result_is_that_of_one_process(loss: str, tmp_path: Path) -> None:
    base, pairs = write_pico_model(tmp_path), polite_pairs(tmp_path / "p.jsonl")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = {"loss": loss, "epochs": 2, "batch_rows": 4, "compile": "false", "threads": 1}
    settings |= {"learning_rate": 0.005, "precision": "fp32", "device": "cpu"}
    words = ["-m", "fledge", "dpo", "--model", str(base), "--preferences", str(pairs), "--json"]
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    figures: list[dict[str, Any]] = []
    for several in ([], torchrun):
        out = ["--out", str(tmp_path / f"out{len(several)}")]
        done = subprocess.run(
            [sys.executable, *several, *words, *out],
            capture_output=True,
            text=True,
            timeout=400,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(done.stdout.strip().splitlines()[-1])["figures"])
    assert figures[1] == pytest.approx(figures[0], rel=1e-3, abs=1e-3)
