"""The templates for clusters, run with stand-ins for its programs: what they start is torchrun."""

from __future__ import annotations

import os
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from fledge.cli.run import command

ROOT = Path(__file__).parents[2]
TOLD = "#!/bin/sh\nprintf '%s\\n' \"$@\" > told\n"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(script: str, place: Path, **variables: str) -> list[str]:
    """The arguments of the program that wrote ``told``."""
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", **variables}
    subprocess.run(["bash", "-c", script], cwd=place, env=environment, check=True)
    return (place / "told").read_text().splitlines()


def torchrun(arguments: list[str]) -> Namespace:
    """As torchrun reads them; what it is to start must be a command that fledge has."""
    found = get_args_parser().parse_args(arguments)
    assert (found.module, found.training_script) == (True, "fledge")
    door, *rest = found.training_script_args
    assert door == "run"
    values = command.make_context(door, rest).params
    assert (ROOT / str(values["recipe"])).is_file()
    return found


def test_slurm_starts_one_torchrun_a_node_with_all_its_cores(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "scontrol", "#!/bin/sh\nprintf 'node7\\nnode8\\n'\n")
    program(tmp_path / "bin" / "srun", TOLD)
    program(tmp_path / ".venv" / "bin" / "activate", "")
    told = run(
        (ROOT / "docs" / "cluster" / "slurm.sbatch").read_text(),
        tmp_path,
        SLURM_JOB_NODELIST="node[7-8]",
        SLURM_JOB_NUM_NODES="2",
        SLURM_GPUS_ON_NODE="4",
        SLURM_JOB_ID="123",
        SLURM_CPUS_PER_TASK="64",
    )
    at = told.index("torchrun")
    assert told[:at] == ["--kill-on-bad-exit=1", "--cpus-per-task=64"]
    found = torchrun(told[at + 1 :])
    assert (found.nnodes, found.nproc_per_node, found.max_restarts) == ("2", "4", 3)
    assert (found.rdzv_backend, found.rdzv_endpoint) == ("c10d", "node7:29400")
    assert found.rdzv_id == "123-0"
    assert 60 < found.shutdown_timeout < 120  # a save that the kill after 120 s does not meet


def test_skypilot_numbers_the_nodes(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    described = yaml.safe_load((ROOT / "docs" / "cluster" / "skypilot.yaml").read_text())
    program(tmp_path / ".venv" / "bin" / "torchrun", TOLD)
    told = run(
        described["run"],
        tmp_path,
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NODE_RANK="1",
        SKYPILOT_NUM_GPUS_PER_NODE="8",
    )
    found = torchrun(told)
    assert (found.nnodes, found.nproc_per_node, found.node_rank) == ("2", "8", 1)
    assert (found.master_addr, found.master_port) == ("10.0.0.1", 29400)
