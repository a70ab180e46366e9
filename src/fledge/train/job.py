"""What a stage hands to the training loop, and how far a run is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch.optim import Optimizer

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch, Batches
from fledge.train.config import LoopConfig
from fledge.train.objective import Objective
from fledge.train.prefetch import AHEAD
from fledge.train.spikes import WINDOW, latest
from fledge.train.world import ALONE, World


def target_weight(batch: Batch) -> float:
    """The summed weights of a batch: its loss is a mean over targets."""
    return float(batch.weights.sum())


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
    count: Callable[[Batch], float] = target_weight
    """What the summed loss of a whole batch is divided by; 0: there is nothing to learn."""
    figures: Callable[[], dict[str, float]] = dict
    """What else there is to log of the steps since it was last asked (``log_every``)."""
    write: Callable[[], list[str]] | None = None
    """What the model as it stands makes of each of ``config.samples``."""
    turns: tuple[int, ...] = ()
    """Numbers of batches with which data of another kind begin: the losses before are no measure
    of theirs, so that they are not taken for spikes."""
    ahead: int = AHEAD
    """Batches built while others compute; 0 where they depend on the weights."""
    world: World = ALONE
    """The processes that train together.  All of them read all batches and learn their rows."""

    @property
    def peak_rate(self) -> float:
        """The peak rate of the layers' matrices, which is the one shown."""
        return float(self.optimizers[0].param_groups[0]["peak"])

    @property
    def places(self) -> int:
        """Places for tokens in a step."""
        return self.config.batch_rows * self.context


@dataclass(kw_only=True)
class Position:
    """How far a run is.  Saved with its state, so plain values only."""

    step: int = 0
    """Updates made."""
    tokens: int = 0
    targets: int = 0
    passed: int = 0
    """How far reading is ahead of ``step``: batches skipped, or left behind by going back."""
    bad: list[int] = field(default_factory=list)
    """The numbers of the batches that were skipped; they are not read again."""
    rewinds: int = 0
    """How often the run went back to an earlier state."""
    faults: list[int] = field(default_factory=list)
    """The steps at which the latest batches were skipped."""
    recent: list[float] = field(default_factory=list)
    """Losses of the latest updates."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of the journal's files."""
    compiled: bool = False
    """Whether this run uses generated code."""

    def next_batch(self, batches: int) -> int:
        """The number of the batch to read next; behind the last of ``batches`` comes the first.

        Bad ones are left out; where none would be left, all are tried again.
        """
        if len(self.bad) >= batches:
            self.bad = []
        while (number := (self.step + self.passed) % batches) in self.bad:
            self.passed += 1
        return number

    def skip(self, number: int) -> None:
        """Pass over the batch of this number, for good."""
        self.passed += 1
        self.bad = [*self.bad, number]
        self.faults = latest(self.faults, self.step)

    def learnt(self, batch: Batch, loss: float) -> int:
        """Count an update on ``batch``; returns the tokens in it."""
        read = int((batch.segments >= 0).sum())
        self.step += 1
        self.tokens += read
        self.targets += int((batch.weights > 0).sum())
        self.recent = [*self.recent, loss][-WINDOW:]
        return read

    @property
    def trouble(self) -> dict[str, int]:
        """For the counts of a stage: skipped batches and rewinds, where there were any."""
        counts = {"skipped_batches": len(self.bad), "rewinds": self.rewinds}
        return {name: count for name, count in counts.items() if count}
