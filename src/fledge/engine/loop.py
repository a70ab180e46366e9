"""The loop of the engine: jobs in, steps of the runner made, what was drawn handed to the jobs.

Whoever waits for tokens takes the next step, for all: so requests of one thread or of many are
computed together without a thread of the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from fledge.core.errors import FledgeError
from fledge.engine.chain.candidates import Floats
from fledge.engine.runner import Runner
from fledge.engine.scheduler import Scheduler
from fledge.engine.step import Piece
from fledge.engine.turns import Inbox as Inbox
from fledge.engine.turns import Turns

Drawn = dict[int, Sequence[int]]
"""The tokens that follow in each sequence; none end it."""


class Job(Protocol):
    """A request: it owns sequences of the scheduler and turns their logits into tokens."""

    def begin(self, loop: Loop) -> None:
        """Submit its first sequences."""
        ...

    def read(self, piece: Piece, rows: Floats) -> Sequence[int] | None:
        """The tokens that follow in the piece's sequence, none to end it.

        None: its last token has not been reached yet.  Raises FledgeError when the job cannot go
        on; others do not notice.
        """
        ...

    def settle(self, drawn: Drawn) -> None:
        """All its pieces of the step are read: the last chance to change what follows in them."""
        ...

    def prepare(self, loop: Loop) -> None:
        """What was drawn is committed: fork, submit or draft for the next step."""
        ...

    def fail(self, error: FledgeError) -> None:
        """It is over; its sequences are gone."""
        ...


class Loop:
    """Steps of ``runner`` as ``scheduler`` plans them; safe to use from several threads."""

    def __init__(self, runner: Runner, scheduler: Scheduler) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self.steps = 0
        """Steps made so far."""
        self._jobs: dict[int, Job] = {}  # by sequence
        self._sequences: dict[int, set[int]] = {}  # by the job's id
        self._turns = Turns()

    def enter(self, job: Job) -> None:
        """A job comes.  Its errors are raised."""
        with self._turns.between_steps():
            try:
                job.begin(self)
            except FledgeError:
                self._drop(job)
                raise

    def leave(self, job: Job) -> None:
        """A job goes, finished or not: its blocks are free at once."""
        with self._turns.between_steps():
            self._drop(job)

    def wait(self, inbox: Inbox) -> None:
        """Make steps until there is something new, or nothing more to come."""
        if inbox.waiting and self._turns.take(inbox):
            try:
                while inbox.waiting:
                    with self._turns.step():
                        self._step()
            finally:
                self._turns.give_up()

    def submit(
        self,
        job: Job,
        tokens: Sequence[int],
        *,
        limit: int,
        client: str = "",
        scope: tuple[str, ...] = (),
        logits_from: int = -1,
    ) -> int:
        """A sequence of the job (``Scheduler.submit``); its number."""
        return self._own(
            job,
            self.scheduler.submit(
                tokens, limit=limit, client=client, scope=scope, logits_from=logits_from
            ),
        )

    def fork(self, job: Job, parent: int, keep: int, tokens: Sequence[int]) -> int:
        """Another sequence of the job that shares its parent's beginning; its number."""
        return self._own(job, self.scheduler.fork(parent, keep, tokens))

    def _own(self, job: Job, number: int) -> int:
        self._jobs[number] = job
        self._sequences.setdefault(id(job), set()).add(number)
        return number

    def _step(self) -> None:
        step = self.scheduler.plan()
        if step is None:
            raise FledgeError("a request waits for tokens, but there is nothing to compute")
        self.steps += 1
        try:
            for source, target in step.copies:
                self.runner.copy_block(source, target)
            logits = self.runner.step(step.pieces)
        except FledgeError as error:
            self._abandon(step.pieces, error)
            return
        except BaseException:  # Ctrl-C, full memory: what the step was to bring is lost
            self._abandon(step.pieces, FledgeError("the engine was interrupted at this request"))
            raise
        self._read(step.pieces, logits)

    def _read(self, pieces: Sequence[Piece], logits: Floats) -> None:
        """Hand the rows to their jobs, commit what they drew, let them prepare the next step."""
        drawn: Drawn = {}
        touched: dict[int, Job] = {}
        row = 0
        for piece in pieces:
            rows = logits[row : row + piece.rows]
            row += piece.rows
            job = self._jobs.get(piece.sequence)
            if job is None or not piece.rows:
                continue
            try:
                tokens = job.read(piece, rows)
            except FledgeError as error:
                self._fail([job], error)
                touched.pop(id(job), None)
                continue
            touched[id(job)] = job
            if tokens is not None:
                drawn[piece.sequence] = tokens
        for job in touched.values():
            job.settle(drawn)
        drawn = {number: tokens for number, tokens in drawn.items() if number in self._jobs}
        self.scheduler.commit(drawn)
        for number, tokens in drawn.items():
            if not tokens:
                self._disown(number)
        for job in touched.values():
            try:
                job.prepare(self)
            except FledgeError as error:
                self._fail([job], error)

    def _jobs_of(self, pieces: Sequence[Piece]) -> list[Job]:
        found = (self._jobs.get(piece.sequence) for piece in pieces)
        return [job for job in found if job is not None]

    def _fail(self, jobs: Iterable[Job], error: FledgeError) -> None:
        for job in list(jobs):
            self._drop(job)
            job.fail(error)

    def _abandon(self, pieces: Sequence[Piece], error: FledgeError) -> None:
        """Forget a step that did not come to its end, and all who had a part in it."""
        self._fail({id(job): job for job in self._jobs_of(pieces)}.values(), error)
        self.scheduler.commit({})

    def _drop(self, job: Job) -> None:
        for number in list(self._sequences.get(id(job), ())):
            self.scheduler.cancel(number)
            self._disown(number)

    def _disown(self, number: int) -> None:
        job = self._jobs.pop(number)
        owned = self._sequences[id(job)]
        owned.discard(number)
        if not owned:
            del self._sequences[id(job)]
