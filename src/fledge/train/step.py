"""A batch in, one optimizer step done, or the finding that it must not be."""

from __future__ import annotations

from typing import NamedTuple

import torch

from fledge.core.errors import FledgeError
from fledge.core.protocols import Progress
from fledge.train.batch import Batch
from fledge.train.compile import compiled, has_compiler
from fledge.train.device import choose_micro_rows, worth_compiling
from fledge.train.job import Position, Training
from fledge.train.objective import Objective
from fledge.train.optimizers import set_rate
from fledge.train.parallel import clip_gradients, gathered, sync_gradients
from fledge.train.spikes import find_fault


class Update(NamedTuple):
    """What came of a batch."""

    loss: float
    """Nats a target token."""
    norm: float
    """Of the gradient of all weights together, before clipping."""
    fault: str | None
    """Why the batch was not learnt, in words."""


def update(
    job: Training, objective: Objective, batch: Batch, position: Position, rate: float
) -> Update:
    """One optimizer step on ``batch`` at ``rate`` of the peak rates, unless it is faulty.

    Raises FledgeError when the batch has nothing to learn.
    """
    loss = _gradients(job, objective, batch, position)
    norm = clip_gradients(job.model.parameters(), job.config.clip)
    fault = find_fault(loss, norm, position.recent, job.config.spike_sigma)
    if fault is None and norm > 0:  # momentum would carry on what nothing speaks for
        set_rate(job.optimizers, rate)
        for optimizer in job.optimizers:
            optimizer.step()
    job.model.zero_grad(set_to_none=True)
    return Update(loss, norm, fault)


def _gradients(job: Training, objective: Objective, batch: Batch, position: Position) -> float:
    """Add the gradients of the whole batch to the weights'; returns its loss in nats a target.

    The loss of every micro-batch is divided by what the whole batch counts, so the sum of their
    gradients, over micro-batches and processes, is that of the batch.
    """
    total = job.count(batch)
    if total == 0:
        raise FledgeError(
            f"{job.label}: the batch of step {position.step + 1} has nothing to learn",
            remedy="every token in it is padding or masked out: check the data",
        )
    pieces = list(job.world.share(batch).micro(_micro_rows(job)))
    if job.world.size == 1:  # together, all must compute equally often
        pieces = [piece for piece in pieces if piece.weights.any()]
    # Added up where it is computed: a GPU is asked, and so waited for, once a step.
    loss = torch.zeros((), dtype=torch.float64, device=job.model.device)
    for number, piece in enumerate(pieces, 1):
        sync_gradients(job.model, number == len(pieces))
        there = piece.to(job.model.device)
        share = gathered(job.model, objective, job.model, there) / total
        share.backward()  # type: ignore[no-untyped-call]
        loss += share.detach()
    return job.world.sums(loss.item())[0]


def _micro_rows(job: Training) -> int:
    """Rows that a process computes at once."""
    mine = job.config.model_copy(update={"batch_rows": job.config.batch_rows // job.world.size})
    return choose_micro_rows(mine, job.context, job.model.device, job.model.compute_dtype)


def choose_objective(job: Training, position: Position, progress: Progress) -> Objective:
    """The objective to run: generated code when that is worth it, or was used before."""
    if position.step == 0:
        position.compiled = not job.world.any(not _wants_compiling(job))
    if not position.compiled or position.step == job.steps:
        return job.objective
    first = job.world.share(job.batches[position.next_batch(job.steps)])
    example = next(first.to(job.model.device).micro(_micro_rows(job)))
    fast = compiled(job.objective, job.model, example, progress)
    if fast is None and position.step:
        progress.say("until it was stopped this run used generated code: the last bits will differ")
    position.compiled = not job.world.any(fast is None)
    return fast or job.objective


def _wants_compiling(job: Training) -> bool:
    if job.config.compile != "auto":
        return job.config.compile
    tokens = job.steps * job.places
    model, device = job.model, job.model.device
    return has_compiler() and worth_compiling(model.config, tokens, model.compute_dtype, device)
