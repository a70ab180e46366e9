"""Small pretraining runs: done, stopped, killed, compared."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from fledge.core.files import file_digest
from fledge.core.protocols import Bar, Silent
from fledge.core.run import Outcome
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch, Batches
from fledge.train.config import PretrainConfig
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers
from fledge.train.pretrain import pretrain
from fledge.train.shards import TokenShards
from pico_shards import VOCAB

REPRODUCIBLE = ("model/model.safetensors", "model/config.json", "loss.jsonl", "validation.jsonl")
SMALL = {
    "depth": 1,
    "width": 32,
    "heads": 1,
    "ffn": 48,
    "context": 16,
    "batch_rows": 8,
    "micro_rows": 4,
    "compile": False,
    "checkpoint_every_seconds": 1e9,
    "seed": 5,
}


def run(folders: tuple[Path, Path], out: Path, progress: Any = None, **changes: Any) -> Outcome:
    config = PretrainConfig.model_validate({**SMALL, "steps": 24, **changes})
    return pretrain(config, *folders, out, progress or Silent())


def pico_training(batches: Batches, out: Path, **changes: Any) -> Training:
    """Training of a new pico model on any batches of the shape that ``SMALL`` has."""
    config = PretrainConfig.model_validate({**SMALL, "steps": 24, **changes})
    shape = ModelConfig(
        vocab_size=VOCAB, width=32, depth=1, heads=1, kv_heads=1, ffn=48, context=16
    )
    model = Decoder(shape).initialize(1)
    return Training(
        label="test",
        model=model,
        objective=cross_entropy(),
        batches=batches,
        steps=config.steps or 1,
        context=16,
        optimizers=build_optimizers(model, config, matrix_rate=0.02, other_rate=0.02),
        config=config,
        validate=dict,
        out=out,
    )


Change = Callable[[Batch], Batch]


def no_number(batch: Batch) -> Batch:
    weights = batch.weights.clone()
    weights[0, 0] = math.nan
    return batch._replace(weights=weights)


def nonsense(batch: Batch) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return batch._replace(targets=torch.randint(1, 64, batch.targets.shape, generator=generator))


class Stop(Exception):
    """The process is gone."""


class Chosen:
    """Batches of the loader in a given order, some of them spoilt; may end the process."""

    def __init__(
        self,
        folders: tuple[Path, Path],
        order: Sequence[int] = range(1000),
        spoilt: Sequence[int] = (),
        spoil: Change = no_number,
        last: int | None = None,
    ) -> None:
        self.loader = PackedLoader(
            TokenShards(folders[0], "train"), context=16, batch_rows=8, seed=1
        )
        self.order, self.spoilt, self.spoil = order, spoilt, spoil
        self.left = last

    def fingerprint(self) -> str:
        return "chosen"

    def __getitem__(self, step: int) -> Batch:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Stop
        batch = self.loader[self.order[step]]
        return self.spoil(batch) if step in self.spoilt else batch


def digests(out: Path) -> dict[str, str]:
    return {name: file_digest(out / name) for name in REPRODUCIBLE}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class StopsAt(Silent):
    """Behaves as a user who presses Ctrl-C after a number of steps."""

    def __init__(self, steps: int, number: int = signal.SIGINT) -> None:
        self.left = steps
        self.number = number

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        outer, silent = self, super().bar(label, total, unit, done)

        class Counting:
            def __enter__(self) -> Counting:
                silent.__enter__()
                return self

            def __exit__(self, *error: object) -> None:
                return None

            def advance(self, amount: float = 1, note: str = "") -> None:
                outer.left -= 1
                if outer.left == 0:
                    os.kill(os.getpid(), outer.number)

        return Counting()


CHILD = """
import json, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.train.config import PretrainConfig
from fledge.train.pretrain import pretrain
from fledge.train.shards import TokenShards
values, tokens, tokenizer, out = sys.argv[1:]
config = PretrainConfig.model_validate(json.loads(values))
pretrain(config, Path(tokens), Path(tokenizer), Path(out), Silent())
"""


def start(folders: tuple[Path, Path], out: Path, values: dict[str, Any]) -> subprocess.Popen[bytes]:
    arguments = [json.dumps({**SMALL, **values}), *map(str, folders), str(out)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)


def kill_after(process: subprocess.Popen[bytes], out: Path, states: int) -> None:
    """kill -9 once the ``states``-th saved state is there."""
    seen: set[str] = set()
    deadline = time.monotonic() + 120
    while len(seen) < states:
        assert process.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < deadline
        seen |= {path.name for path in (out / "state").glob("step-*.pt")}
        time.sleep(0.002)
    process.kill()
    process.wait()
