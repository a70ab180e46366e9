"""TRL agrees: values and gradients of GRPO's variants, RLOO and PPO on the same model and batch.

Runs with the interpreter that $FLEDGE_TRL_PYTHON names (trl 1.x); PPO also needs the unpacked
wheel of trl 0.11 in $FLEDGE_OLD_TRL.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _benchmark() -> ModuleType:
    path = ROOT / "benchmarks" / "trl_reinforcement.py"
    spec = importlib.util.spec_from_file_location("trl_reinforcement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_trl_computes_the_same() -> None:
    python, old = os.environ.get("FLEDGE_TRL_PYTHON"), os.environ.get("FLEDGE_OLD_TRL")
    if python is None:
        pytest.skip("needs a Python with trl in $FLEDGE_TRL_PYTHON")
    bench = _benchmark()
    found = bench.compare(python, Path(old) if old else None)
    assert set(found) == {*bench.JOBS, *(["ppo"] if old else [])}
    for name, row in found.items():
        assert {"loss", "advantages", "gradient"} <= set(row), name
        assert max(row.values()) < bench.TOLERANCE, name
