"""A step done in, everyone who watches told: terminal, curves, TensorBoard."""

from __future__ import annotations

from fledge.core.protocols import Bar, TableBar
from fledge.train.ema import averaged
from fledge.train.events import Journal
from fledge.train.job import Position, Training
from fledge.train.meter import Meter, peak_memory, shown
from fledge.train.step import Update


class Watch:
    """Tells of a run's steps and validates when it is time to."""

    def __init__(self, job: Training, journal: Journal, bar: Bar, meter: Meter) -> None:
        self._job = job
        self._journal = journal
        self._bar = bar
        self._table = bar if isinstance(bar, TableBar) else None
        self._meter = meter

    def tell(self, position: Position, done: Update, rate: float) -> None:
        """Of the step that led to ``position``."""
        job, step = self._job, position.step
        figures = {
            "loss": done.loss,
            "lr": rate * job.peak_rate,
            "grad_norm": done.norm,
            **self._meter.figures(),
            "memory_bytes": peak_memory(job.model.device),
        }
        self._bar.advance(job.places, note=f"loss {done.loss:.3f}")
        if self._table is not None:
            self._table.table(shown(figures))
        self._journal.write("loss", {"step": step, "tokens": position.tokens, "loss": done.loss})
        if step % job.config.log_every == 0 or step == job.steps:
            figures |= job.figures()
            self._journal.write("metrics", {"step": step, **figures})
            self._journal.events(step, figures)
        every = job.config.validate_every or max(1, job.steps // 10)
        if step % every == 0 or step == job.steps:
            self._validate(position)
            self._sample(position.step)

    def _validate(self, position: Position) -> None:
        """A point of the validation curve, where there is anything to measure."""
        mode = self._job.model.training
        with averaged(self._job.optimizers):
            self._job.model.eval()  # no dropout
            figures = self._job.validate()
            self._job.model.train(mode)
        if figures:
            row = {"step": position.step, "tokens": position.tokens, **figures}
            self._journal.write("validation", row)
            self._journal.events(position.step, figures)

    def _sample(self, step: int) -> None:
        """What the model makes of the texts that the config names."""
        if self._job.write is None or not self._job.config.samples:
            return
        with averaged(self._job.optimizers):
            texts = self._job.write()
        for prompt, text in zip(self._job.config.samples, texts, strict=True):
            self._journal.sample(step, prompt, text)
