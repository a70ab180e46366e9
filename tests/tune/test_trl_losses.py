"""TRL computes the same losses and gradients.

Runs where trl can be imported, or in the interpreter that $FLEDGE_TRL_PYTHON names.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CASES = ("dpo", "cdpo", "rpo", "robust", "ipo", "dpo_norm", "simpo", "orpo", "kto", "reward")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "trl_losses.py"
    spec = importlib.util.spec_from_file_location("trl_losses", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    python = os.environ.get("FLEDGE_TRL_PYTHON", sys.executable)
    if not bench.has_trl(python):
        pytest.skip("needs trl here or in $FLEDGE_TRL_PYTHON")
    assert set(bench.CASES) == set(CASES)
    return {row["case"]: row for row in bench.run(python, tmp_path_factory.mktemp("trl"))}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_trls(case: str, rows: dict[str, dict[str, Any]]) -> None:
    row = rows[case]
    assert row["gradient_norm"] > 1e-3
    assert row["value_apart"] < 1e-4
    assert row["gradient_apart"] < 1e-4


def test_the_comparison_can_fail(bench: ModuleType, tmp_path: Path) -> None:
    """Another beta gives another value: the numbers do depend on what they are compared by."""
    job = bench.make_job(tmp_path)
    value, _ = bench.ours("dpo", job)
    bench.CASES["dpo"] = {**bench.CASES["dpo"], "beta": 0.31}
    other, _ = bench.ours("dpo", job)
    assert abs(value - other) / value > 1e-3
