"""The training loop: one for every stage.  Stages hand in what differs and read from the top."""

from __future__ import annotations

from contextlib import AbstractContextManager

from fledge.core.protocols import Bar, Progress
from fledge.train.device import arithmetic
from fledge.train.ema import settle
from fledge.train.events import Journal
from fledge.train.interrupt import DeferredInterrupt
from fledge.train.job import Position as Position
from fledge.train.job import Training as Training
from fledge.train.meter import make_meter
from fledge.train.prefetch import Prefetched
from fledge.train.recovery import Recovery
from fledge.train.schedule import rate_factor
from fledge.train.state import States
from fledge.train.step import choose_objective, update
from fledge.train.tracking import start_tracking
from fledge.train.watch import Watch


def train(job: Training, progress: Progress) -> Position:
    """Train to the end, from the last saved state if there is one; returns the final position.

    With ``ema`` the model has its average weights afterwards.  Ctrl-C and SIGTERM save the state,
    then raise KeyboardInterrupt.  Raises FledgeError when bad batches do not cease or one has
    nothing to learn, InputError when the saved state belongs to another run.  On CPU a run that
    was interrupted, killed or neither ends in the same weights, bit for bit.
    """
    states = States(job, progress)
    with arithmetic(job.config, job.model.device):
        position = states.resume()
        objective = choose_objective(job, position, progress)
        meter = make_meter(job)
        with (
            _journal(job, position) as journal,
            Prefetched(job.batches, ahead=job.ahead, stop=job.steps) as batches,
            _bar(job, position, progress) as bar,
            DeferredInterrupt(patient=job.world.size > 1) as interrupt,
        ):
            watch = Watch(job, journal, bar, meter)
            recovery = Recovery(job, states, journal, progress)
            while position.step < job.steps:
                if states.wants_good(position):
                    states.keep_good(position, journal.sizes())
                meter.begin(batches.waited_seconds)
                number = position.next_batch(job.steps)
                if number in job.turns:
                    position.recent = []
                batch = batches[number]
                rate = rate_factor(position.step, job.steps, job.config)
                done = update(job, objective, batch, position, rate)
                if done.fault is None:
                    meter.end(position.learnt(batch, done.loss), batches.waited_seconds)
                    watch.tell(position, done, rate)
                else:
                    before = position.step
                    position = recovery.after(position, batch, done)
                    bar.advance((position.step - before) * job.places)
                # Read once: they may turn true at any moment, and all processes must agree.
                stop, due = job.world.sums(interrupt.asked, states.due(position))
                if stop or due:
                    states.save(position, journal.sizes())
                if stop:
                    raise KeyboardInterrupt
            states.save(position, journal.sizes())
            if job.world.any(interrupt.asked):
                raise KeyboardInterrupt
    states.finish()
    settle(job.optimizers)
    return position


def _journal(job: Training, position: Position) -> Journal:
    main, tracker = job.world.is_main, start_tracking(job)
    return Journal(job.out, position.sizes, position.step, main=main, tracker=tracker)


def _bar(job: Training, position: Position, progress: Progress) -> AbstractContextManager[Bar]:
    done = position.step * job.places
    return progress.bar(job.label, job.steps * job.places, "tokens", done=done)
