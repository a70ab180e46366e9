"""The training loop: one for every stage.  Stages hand in what differs and read from the top."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch, Batches
from fledge.train.checkpoint import Checkpoints
from fledge.train.compile import compiled, has_compiler
from fledge.train.config import LoopConfig
from fledge.train.device import arithmetic, choose_micro_rows, worth_compiling
from fledge.train.events import Journal
from fledge.train.interrupt import DeferredInterrupt
from fledge.train.objective import Objective
from fledge.train.optimizers import Muon, set_rate
from fledge.train.schedule import rate_factor

ANEW = "run with --force to start anew"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training run: what to change, by which loss, on which batches, for how long."""

    label: str
    """Names the run in progress bars and errors."""
    model: Decoder
    objective: Objective
    batches: Batches
    steps: int
    context: int
    optimizers: list[Optimizer]
    config: LoopConfig
    validate: Callable[[], dict[str, float]]
    """Named figures of the model as it stands."""
    out: Path
    """State goes to ``out/state``, events to ``out/logs``, curves to ``out``."""

    @property
    def peak_rate(self) -> float:
        """The peak rate of the layers' matrices, which is the one shown."""
        return float(self.optimizers[0].param_groups[0]["peak"])


@dataclass(kw_only=True)
class Position:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    targets: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    compiled: bool = False


def train(job: Training, progress: Progress) -> Position:
    """Train to the end, from the last saved state if there is one; returns the final position.

    Ctrl-C and SIGTERM save the state, then raise KeyboardInterrupt.  Raises FledgeError when the
    loss is not finite or a batch has nothing to learn, InputError when the saved state belongs to
    another run.  On CPU a run that was interrupted, killed or neither ends in the same weights,
    bit for bit.
    """
    checkpoints = Checkpoints(job.out / "state", progress)
    with arithmetic(job.config, job.model.device):
        position = _resume(job, checkpoints, progress)
        objective = _objective(job, position, progress)
        saver = _Saver(job, checkpoints, position)
        places = job.config.batch_rows * job.context
        with (
            Journal(job.out, position.sizes, position.step) as journal,
            progress.bar(
                job.label, job.steps * places, "tokens", done=position.step * places
            ) as bar,
            DeferredInterrupt() as interrupt,
        ):
            meter = _Meter()
            for step in range(position.step, job.steps):
                batch = job.batches[step].to(job.model.device)
                rate = rate_factor(step, job.steps, job.config)
                loss, norm = update(job, objective, batch, step, rate)
                read = int((batch.segments >= 0).sum())
                position.step += 1
                position.tokens += read
                position.targets += int((batch.weights > 0).sum())
                bar.advance(places, note=f"loss {loss:.3f}")
                values = {"loss": loss, "lr": rate * job.peak_rate, "grad_norm": norm}
                _log(job, journal, position, values, meter.add(read))
                stop = interrupt.asked  # read once: it may turn true at any moment
                if stop or saver.due():
                    saver.save(journal)
                if stop:
                    raise KeyboardInterrupt
            saver.save(journal)
            if interrupt.asked:
                raise KeyboardInterrupt
    return position


def update(
    job: Training, objective: Objective, batch: Batch, step: int, rate: float
) -> tuple[float, float]:
    """One optimizer step on ``batch``; returns the loss, in nats a target, and gradient norm.

    The loss of every micro-batch is divided by the weights of the whole batch, so the sum of
    their gradients is that of the batch.
    """
    rows = choose_micro_rows(job.config, job.context, job.model.device)
    total = float(batch.weights.sum())
    if total == 0:
        raise FledgeError(
            f"{job.label}: the batch of step {step + 1} has nothing to learn",
            remedy="every token in it is padding or masked out: check the data",
        )
    loss = 0.0
    for piece in batch.micro(rows):
        if piece.weights.any():
            share = objective(job.model, piece) / total
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.item()
    norm = float(clip_grad_norm_(job.model.parameters(), job.config.clip or math.inf))
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise FledgeError(
            f"{job.label}: loss {loss}, gradient norm {norm} at step {step + 1} of {job.steps}",
            remedy="lower learning_rate, lengthen warmup or set precision = 'fp32'",
        )
    set_rate(job.optimizers, rate)
    for optimizer in job.optimizers:
        optimizer.step()
    job.model.zero_grad(set_to_none=True)
    return loss, norm


def _objective(job: Training, position: Position, progress: Progress) -> Objective:
    """The objective to run: generated code when that is worth it, or was used before."""
    if position.step == 0:
        position.compiled = _wants_compiling(job)
    if not position.compiled or position.step == job.steps:
        return job.objective
    rows = choose_micro_rows(job.config, job.context, job.model.device)
    example = next(job.batches[position.step].to(job.model.device).micro(rows))
    fast = compiled(job.objective, job.model, example, progress)
    if fast is None and position.step:
        progress.say("until it was stopped this run used generated code: the last bits will differ")
    position.compiled = fast is not None
    return fast or job.objective


def _wants_compiling(job: Training) -> bool:
    if job.config.compile != "auto":
        return job.config.compile
    tokens = job.steps * job.config.batch_rows * job.context
    model, device = job.model, job.model.device
    return has_compiler() and worth_compiling(model.config, tokens, model.compute_dtype, device)


def _resume(job: Training, checkpoints: Checkpoints, progress: Progress) -> Position:
    """Put the last saved state, if any, into model and optimizers; returns where it stands."""
    state = checkpoints.load()
    if state is None:
        return Position()
    try:
        if state["data"] != job.batches.fingerprint():
            raise InputError(
                f"{checkpoints.folder} was saved while training on other data", remedy=ANEW
            )
        position = Position(**state["position"])
        _adopt_arithmetic(job, state["arithmetic"], checkpoints.folder, progress)
        job.model.load_state_dict(state["model"])
        for optimizer, saved in zip(job.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{checkpoints.folder} was saved by another model or version of fledge ({reason})",
            remedy=ANEW,
        ) from None
    return position


def _arithmetic_of(job: Training) -> dict[str, Any]:
    """What decides the last bits besides the data: saved with a state, adopted when it goes on."""
    return {
        "device": job.model.device.type,
        "threads": torch.get_num_threads(),
        "dtype": str(job.model.compute_dtype).removeprefix("torch."),
    }


def _adopt_arithmetic(
    job: Training, saved: dict[str, Any], folder: Path, progress: Progress
) -> None:
    """Compute as the run did so far; raises InputError where this machine cannot."""
    now = _arithmetic_of(job)
    device, threads, dtype = saved["device"], int(saved["threads"]), saved["dtype"]
    if dtype != now["dtype"]:
        if dtype != "float32":
            raise InputError(
                f"{folder} was computed in {dtype}, which this machine does not multiply natively",
                remedy="continue on a machine that does, or run with --force to start anew",
            )
        job.model.compute_dtype = torch.float32
        for optimizer in job.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.dtype = torch.float32
        progress.say(f"going on in {dtype}, as this run began")
    if device != now["device"]:
        progress.say(
            f"this run began on {device} and goes on on {now['device']}: the last bits will differ"
        )
    elif device == "cpu" and threads != now["threads"]:
        torch.set_num_threads(threads)
        progress.say(f"going on with {threads} threads, as this run began, not {now['threads']}")


class _Saver:
    """Saves the state when it is time to."""

    def __init__(self, job: Training, checkpoints: Checkpoints, position: Position) -> None:
        self._job = job
        self._checkpoints = checkpoints
        self._position = position
        self._last = time.monotonic()
        self._pause = job.config.checkpoint_every_seconds

    def due(self) -> bool:
        every = self._job.config.checkpoint_every_steps
        if every and self._position.step % every == 0:
            return True
        return time.monotonic() - self._last >= self._pause

    def save(self, journal: Journal) -> None:
        begun = time.monotonic()
        self._position.sizes = journal.sizes()
        state: dict[str, Any] = {
            "position": dict(vars(self._position)),  # with it: whether the code is generated
            "arithmetic": _arithmetic_of(self._job),
            "data": self._job.batches.fingerprint(),
            "model": self._job.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._job.optimizers],
            "rng": torch.get_rng_state(),
        }
        self._checkpoints.save(self._position.step, state)
        self._last = time.monotonic()
        cost = self._last - begun
        self._pause = max(self._job.config.checkpoint_every_seconds, 50 * cost)


class _Meter:
    """Tokens per second since it was last read out."""

    def __init__(self) -> None:
        self._begun, self._tokens = time.monotonic(), 0

    def add(self, tokens: int) -> _Meter:
        self._tokens += tokens
        return self

    def rate(self) -> float:
        now = time.monotonic()
        rate = self._tokens / max(now - self._begun, 1e-9)
        self._begun, self._tokens = now, 0
        return round(rate, 1)


def _log(
    job: Training,
    journal: Journal,
    position: Position,
    values: dict[str, float],
    meter: _Meter,
) -> None:
    """Rows of the journal after a step, and a validation when it is time for one."""
    step, last = position.step, position.step == job.steps
    journal.write("loss", {"step": step, "tokens": position.tokens, "loss": values["loss"]})
    if step % job.config.log_every == 0 or last:
        values = {**values, "tokens_per_second": meter.rate()}
        journal.write("metrics", {"step": step, **values})
        journal.events(step, values)
    every = job.config.validate_every or max(1, job.steps // 10)
    if step % every == 0 or last:
        figures = job.validate()
        if not figures:
            return
        journal.write("validation", {"step": step, "tokens": position.tokens, **figures})
        journal.events(step, figures)
