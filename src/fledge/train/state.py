"""What makes a run go on, or back: its states saved, and put into model and optimizers again."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Progress
from fledge.train.checkpoint import Checkpoints
from fledge.train.device import cpu_has_bfloat16
from fledge.train.job import Position, Training
from fledge.train.muon import Muon
from fledge.train.sharded_state import layout_of
from fledge.train.spikes import rewind_spacing

ANEW = "run with --force to start anew"
_STEP = re.compile(r"step-(\d+)")


class States:
    """The saved states of a run.

    ``out/state`` holds the latest, to go on from after a kill; they are saved by the clock.
    ``out/state/good`` holds those to go back to; they are saved by the count of steps, so that a
    run goes back to the same one however often it was killed.
    """

    def __init__(self, job: Training, progress: Progress) -> None:
        self._job = job
        self._progress = progress
        self._folder = job.out / "state"
        layout = layout_of(job.model, job.optimizers)
        self._latest = Checkpoints(self._folder, progress, job.world, layout)
        self._good = Checkpoints(self._folder / "good", progress, job.world, layout)
        self._spacing = rewind_spacing(job.config.rewind_every, job.steps)
        self._kept_at = -1
        self._last = time.monotonic()
        self._pause = job.config.checkpoint_every_seconds

    def resume(self) -> Position:
        """Put the latest state, if any, into model and optimizers; returns where it stands."""
        state = self._load(self._latest)
        if state is None:  # what draws at random while training begins alike each time
            torch.manual_seed(self._job.config.seed + self._job.world.rank)
        position = Position() if state is None else self._restore(state)
        kept_at = 0
        if self._job.world.is_main:
            self._drop_good(position.step + 1)  # this run has yet to come there
            kept_at = max(self._good_steps(), default=-1)
        self._kept_at = int(self._job.world.sums(kept_at)[0])  # as the main process sees it
        return position

    def due(self, position: Position) -> bool:
        """Whether it is time to save."""
        every = self._job.config.checkpoint_every_steps
        if every and position.step % every == 0:
            return True
        return time.monotonic() - self._last >= self._pause

    def save(self, position: Position, sizes: dict[str, int]) -> None:
        """Save the run as it stands.  ``sizes``: those of the journal."""
        begun = time.monotonic()
        position.sizes = sizes
        self._latest.save(position.step, self._state(position))
        self._last = time.monotonic()
        self._pause = max(self._job.config.checkpoint_every_seconds, 50 * (self._last - begun))

    def wants_good(self, position: Position) -> bool:
        """Whether the run as it stands is to be kept as one to go back to."""
        if not self._job.config.max_rewinds or position.step == self._kept_at:
            return False
        return position.step % self._spacing == 0 or self._kept_at < 0

    def keep_good(self, position: Position, sizes: dict[str, int]) -> None:
        """Keep the run as it stands to go back to."""
        position.sizes = sizes
        self._good.save(position.step, self._state(position))
        self._kept_at = position.step

    def rewind(self, position: Position) -> Position:
        """Go back to a state of before the first fault, and on with data behind the last batch.

        To the oldest there is where all are later.  Raises FledgeError when there is none.
        """
        if self._job.world.is_main:
            oldest = min(self._good_steps(), default=0)
            self._drop_good(max(oldest + 1, position.faults[0]))
        self._job.world.barrier()
        state = self._load(self._good)
        if state is None:
            raise FledgeError(f"{self._good.folder} holds no state to go back to", remedy=ANEW)
        back = self._restore(state)
        back.passed = position.step + position.passed - back.step
        back.bad = position.bad
        back.rewinds = position.rewinds + 1
        back.faults = []
        self._kept_at = back.step
        return back

    def finish(self) -> None:
        """The run is done: nothing to go back to is needed."""
        if self._job.world.is_main:
            shutil.rmtree(self._good.folder, ignore_errors=True)

    def _good_steps(self) -> list[int]:
        """The steps after which states to go back to were kept."""
        found = (_STEP.match(path.name) for path in self._good.folder.glob("step-*"))
        return [int(match[1]) for match in found if match]

    def _drop_good(self, first: int) -> None:
        """Remove the states to go back to from step ``first`` on."""
        for path in list(self._good.folder.glob("step-*")):
            found = _STEP.match(path.name)
            if found and int(found[1]) >= first:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _state(self, position: Position) -> dict[str, Any]:
        return {
            "position": dict(vars(position)),  # with it: whether the code is generated
            "arithmetic": _arithmetic_of(self._job),
            "data": self._job.batches.fingerprint(),
            "model": learnt_weights(self._job.model),
            "optimizers": [optimizer.state_dict() for optimizer in self._job.optimizers],
            "rng": torch.get_rng_state(),
        }

    def _load(self, states: Checkpoints) -> dict[str, Any] | None:
        """The newest state, or None; raises InputError when it is none of fledge's."""
        try:
            return states.load()
        except (TypeError, ValueError, AttributeError) as error:
            raise self._foreign(error) from None

    def _foreign(self, error: Exception) -> InputError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return InputError(
            f"{self._folder} was saved by another model or version of fledge ({reason})",
            remedy=ANEW,
        )

    def _restore(self, state: dict[str, Any]) -> Position:
        """Put a saved state into model and optimizers; raises InputError when it does not fit."""
        job, folder = self._job, self._folder
        try:
            if state["data"] != job.batches.fingerprint():
                raise InputError(f"{folder} was saved while training on other data", remedy=ANEW)
            position = Position(**state["position"])
            _adopt_arithmetic(job, state["arithmetic"], folder, self._progress)
            frozen = job.model.state_dict().keys() - learnt_weights(job.model).keys()
            own = job.model.state_dict()
            job.model.load_state_dict({**state["model"], **{name: own[name] for name in frozen}})
            for optimizer, saved in zip(job.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["rng"])
        except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise self._foreign(error) from None
        return position


def learnt_weights(model: nn.Module) -> dict[str, Any]:
    """The part of the state dict that training changes: frozen weights are found in the base."""
    weights = dict(model.named_parameters())
    if all(weight.requires_grad for weight in weights.values()):
        return model.state_dict()
    learnt = {name for name, weight in weights.items() if weight.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name in learnt}


def _arithmetic_of(job: Training) -> dict[str, Any]:
    """What decides the last bits besides the data: saved with a state, adopted when it goes on."""
    return {
        "device": job.model.device.type,
        "threads": torch.get_num_threads(),
        "dtype": str(job.model.compute_dtype).removeprefix("torch."),
        "processes": job.world.size,
    }


def _adopt_arithmetic(
    job: Training, saved: dict[str, Any], folder: Path, progress: Progress
) -> None:
    """Compute as the run did so far; raises InputError where this machine cannot."""
    now = _arithmetic_of(job)
    device, threads, dtype = saved["device"], int(saved["threads"]), saved["dtype"]
    if dtype != now["dtype"]:
        if dtype == "bfloat16" and now["device"] == "cpu" and not cpu_has_bfloat16():
            raise InputError(
                f"{folder} was computed in {dtype}, which this machine does not multiply natively",
                remedy="continue on a machine that does, or run with --force to start anew",
            )
        job.model.compute_dtype = getattr(torch, dtype)
        for optimizer in job.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.dtype = job.model.compute_dtype
        progress.say(f"going on in {dtype}, as this run began")
    processes = saved.get("processes", 1)
    if device != now["device"]:
        progress.say(
            f"this run began on {device} and goes on on {now['device']}: the last bits will differ"
        )
    elif processes != now["processes"]:
        progress.say(
            f"this run was saved by {processes} and goes on in {now['processes']} processes: the "
            "last bits will differ"
        )
    elif device == "cpu" and threads != now["threads"]:
        torch.set_num_threads(threads)
        progress.say(f"going on with {threads} threads, as this run began, not {now['threads']}")
