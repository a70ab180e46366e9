"""A bad batch in, where the run goes on out: behind the batch, or from an earlier state."""

from __future__ import annotations

from pathlib import Path

from fledge.core.errors import FledgeError
from fledge.core.protocols import Progress
from fledge.train.batch import Batch
from fledge.train.events import Journal
from fledge.train.evidence import keep_batch, spike_row
from fledge.train.job import Position, Training
from fledge.train.spikes import weights_are_bad
from fledge.train.state import States
from fledge.train.step import Update


class Recovery:
    """Passes over bad batches and, when several come, takes a run back.  See ``spikes``."""

    def __init__(self, job: Training, states: States, journal: Journal, progress: Progress) -> None:
        self._job = job
        self._states = states
        self._journal = journal
        self._progress = progress

    def after(self, position: Position, batch: Batch, bad: Update) -> Position:
        """Where the run goes on after ``batch`` was ``bad``.

        Raises FledgeError when it may go back no more.
        """
        job, step = self._job, position.step
        number = position.next_batch(job.steps)
        position.skip(number)
        back = weights_are_bad(position.faults) or not job.config.max_rewinds
        spent = back and position.rewinds >= job.config.max_rewinds
        if back and not spent:
            position = self._states.rewind(position)
        row = spike_row(
            step=step + 1,
            batch_number=number,
            loss=bad.loss,
            norm=bad.norm,
            fault=str(bad.fault),
            rewound_to=position.step if back and not spent else None,
        )
        kept = keep_batch(self._folder, batch, row) if job.world.is_main else None
        self._journal.write("spikes", row)
        if spent:
            raise self._error(position, bad)
        self._say(row, kept)
        if back:
            self._journal.rewind(position.sizes, position.step)
            self._states.save(position, self._journal.sizes())
        return position

    @property
    def _folder(self) -> Path:
        return self._job.out / "logs" / "spikes"

    def _say(self, row: dict[str, object], kept: Path | None) -> None:
        line = f"{self._job.label}: {row['reason']} at step {row['step']}: "
        if row["rewound_to"] is None:
            line += "batch skipped"
        else:
            line += f"going back to step {row['rewound_to']}, and on with later data"
        self._progress.say(f"{line} (batch kept in {kept})" if kept else line)

    def _error(self, position: Position, bad: Update) -> FledgeError:
        again = f", after {position.rewinds} rewinds" if position.rewinds else ""
        return FledgeError(
            f"{self._job.label}: {bad.fault} at step {position.step + 1} of {self._job.steps}"
            f"{again}",
            remedy="lower learning_rate, lengthen warmup or set precision = 'fp32'; the batches "
            f"are in {self._folder}",
        )
