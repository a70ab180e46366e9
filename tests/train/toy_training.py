"""A training run of a moment, by one process or by several under torchrun, on made-up tokens.

As a program: toy_training.py OUT KEY=VALUE…, where values are JSON: keys of LoopConfig, and

    kill=[rank, step]   that process dies by kill -9 when it needs that step's batch, once
    crawl=0.1           a step takes that many seconds longer
    lora="dora"         small matrices learn beside the frozen model: "lora", "dora", "nf4"
    full=true           the last process's disk is full from the third state on
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fledge.core.errors import FledgeError
from fledge.core.protocols import Silent
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.lora import add_lora
from fledge.model.lora_config import LoraConfig
from fledge.model.quantized import quantize_linears
from fledge.model.token_rows import learn_rows
from fledge.train import sharded_state
from fledge.train.batch import Batch
from fledge.train.config import LoopConfig
from fledge.train.loop import Training, train
from fledge.train.objective import cross_entropy, token_losses
from fledge.train.optimizers import build_optimizers
from fledge.train.parallel import gathered, prepare, whole_weights
from fledge.train.world import join_world

# Sizes that two and four do not divide, so that slices are uneven and some are empty.
SHAPE = ModelConfig(
    vocab_size=97, width=30, depth=3, heads=3, kv_heads=1, head_size=10, ffn=41, context=16
)
STEPS = 50
DEFAULTS: dict[str, Any] = {
    "batch_rows": 8,
    "micro_rows": 2,
    "steps": STEPS,
    "precision": "fp32",
    "compile": False,
    "device": "cpu",
    "threads": 1,
    "validate_every": 25,
    "checkpoint_every_seconds": 1000.0,
}


class ToyBatches:
    """Tokens that each repeat what stood two places before, mostly; rows of unequal weight."""

    def __init__(self, out: Path, kill: list[int] | None, crawl: float) -> None:
        self._mark, self._kill, self._crawl = out / "killed", kill, crawl

    def __getitem__(self, step: int) -> Batch:
        time.sleep(self._crawl)
        if self._kill == [int(os.environ.get("RANK", 0)), step] and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(SHAPE.vocab_size, (8, 17), generator=generator)
        tokens[:, 2:][torch.rand((8, 15), generator=generator) < 0.8] = 5
        weights = (torch.rand((8, 16), generator=generator) < 0.7).float()
        weights[0] = 0  # the first process has a micro-batch with less, or nothing, to learn
        weights[1] = 0
        return Batch(tokens[:, :-1], tokens[:, 1:], torch.zeros(8, 16, dtype=torch.long), weights)

    def fingerprint(self) -> str:
        return "toy"


def toy_training(out: Path, **options: Any) -> None:
    """Train; ``out/weights.pt`` holds the weights at the end."""
    kill, crawl = options.pop("kill", None), options.pop("crawl", 0.0)
    lora = options.pop("lora", "")
    if options.pop("full", False):
        _fill_disk()
    config = LoopConfig(**{**DEFAULTS, **options})
    with join_world(config) as world:
        model = Decoder(SHAPE).initialize(config.seed)
        if lora:
            _adapt(model, lora)
        prepare(model, config, world)
        batches = ToyBatches(out, kill, crawl)
        train(
            Training(
                label="toy",
                model=model,
                objective=cross_entropy(config.z_loss),
                batches=batches,
                steps=config.steps or STEPS,
                context=16,
                optimizers=build_optimizers(model, config, matrix_rate=0.01, other_rate=0.01),
                config=config,
                validate=lambda: {"loss": gathered(model, _loss, model)},
                out=out,
                world=world,
            ),
            Silent(),
        )
        weights = whole_weights(model, world)
        if world.is_main:
            torch.save(weights, out / "weights.pt")
            print(f"trained by {world.size}")


def _adapt(model: Decoder, lora: str) -> None:
    """The frozen embedding is made large enough to speak."""
    with torch.no_grad():
        model.embed_tokens.weight.mul_(10)
    if lora == "nf4":
        quantize_linears(model, "nf4")
    add_lora(model, LoraConfig(rank=4, dora=lora == "dora"))
    learn_rows(model, [5, 96])


def _loss(model: Decoder) -> float:
    with torch.no_grad():
        return float(token_losses(model, ToyBatches(Path(), None, 0.0)[10_000]).double().mean())


def _fill_disk() -> None:
    """The last process meets a full disk in its third state and later."""
    inner, calls = sharded_state.dcp.save, []

    def save(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) > 2 and os.environ["RANK"] == "1":
            named["storage_writer"].write_data = _no_space
        return inner(*arguments, **named)

    sharded_state.dcp.save = save


def _no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def launch(processes: int, out: Path, *torchrun: str, **options: Any) -> subprocess.Popen[str]:
    """Start it, in a process group of its own, under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *torchrun, __file__, str(out)]
    return subprocess.Popen(
        [*command, *(f"{key}={json.dumps(value)}" for key, value in options.items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_several(processes: int, out: Path, *torchrun: str, **options: Any) -> tuple[int, str]:
    """Run it to the end under torchrun; the exit code and what was printed."""
    running = launch(processes, out, *torchrun, **options)
    try:
        printed, _ = running.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        raise
    return running.returncode, printed


def losses(out: Path) -> list[float]:
    """The loss of every step."""
    return [json.loads(line)["loss"] for line in (out / "loss.jsonl").read_text().splitlines()]


def validations(out: Path) -> list[float]:
    """The validation curve."""
    lines = (out / "validation.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The weights at the end."""
    return dict(torch.load(out / "weights.pt", weights_only=True))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    given = (argument.split("=", 1) for argument in sys.argv[2:])
    try:
        toy_training(Path(sys.argv[1]), **{key: json.loads(value) for key, value in given})
        code = 0
    except KeyboardInterrupt:
        code = 130
    except FledgeError as error:
        print(f"fledge: {error}", flush=True)
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code)
