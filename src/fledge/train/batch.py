"""What one optimizer step reads, and who delivers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PADDING = -1
"""The segment number of padding."""


class Batch(NamedTuple):
    """Rows of tokens.  Shapes are (B,T); padding has segment -1 and weight 0."""

    ids: Tensor
    """int64: the tokens read."""
    targets: Tensor
    """int64: the token each position predicts."""
    segments: Tensor
    """int64: a number per document; positions see only their own."""
    weights: Tensor
    """float32: how much each prediction counts."""
    signals: Tensor | None = None
    """float32 (B,T,S): what else the objective reads of each prediction, such as the
    log-probability that a reference gives it."""
    continues: Tensor | None = None
    """int64 (B,T): the segment that each position's own goes on from and sees whole, such as the
    prompt of an answer; -1: none.  None: no segment does."""

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        return Batch(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]

    def micro(self, rows: int) -> Iterator[Batch]:
        """The batch in pieces of ``rows`` rows."""
        for start in range(0, self.ids.shape[0], rows):
            yield self.each(itemgetter(slice(start, start + rows)))

    def trimmed(self) -> Batch:
        """The batch without the places behind the last token of its longest row."""
        width = int((self.segments >= 0).any(0).nonzero().max()) + 1
        return self.each(lambda part: part[:, :width])

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``."""
        return self.each(lambda part: part.to(device, non_blocking=True))


class Batches(Protocol):
    """A batch for every step, as a pure function of the step: that is what makes a run resumable.

    The loader's whole position is the number of steps done.
    """

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step`` (0-based); always the same for the same step."""

    def fingerprint(self) -> str:
        """Names the data and its order; a checkpoint continues only with the same."""


class RowSource(Protocol):
    """Rows of tokens for ever, epoch after epoch, each a pure function of its number."""

    rows_per_epoch: int
    """The same in every epoch."""

    @property
    def tokens(self) -> int:
        """Tokens read in an epoch."""

    def fill(self, rows: Rows, place: int, number: int) -> None:
        """Write row ``number``, counted from the start of training, at ``place``."""

    def fingerprint(self) -> str:
        """Names the data and the order of its rows."""


class Rows:
    """Rows under construction: filled with numpy, handed over as a ``Batch``."""

    def __init__(self, rows: int, context: int, fill: int) -> None:
        self.ids: NDArray[np.int64] = np.full((rows, context), fill, dtype=np.int64)
        self.targets: NDArray[np.int64] = np.full((rows, context), fill, dtype=np.int64)
        self.segments: NDArray[np.int64] = np.full((rows, context), PADDING, dtype=np.int64)
        self.weights: NDArray[np.float32] = np.zeros((rows, context), dtype=np.float32)

    def append(self, other: Rows) -> None:
        """Put the rows of ``other`` behind."""
        for part in ("ids", "targets", "segments", "weights"):
            setattr(self, part, np.concatenate([getattr(self, part), getattr(other, part)]))

    def batch(self) -> Batch:
        """The rows as tensors that share their memory."""
        return Batch(
            torch.from_numpy(self.ids),
            torch.from_numpy(self.targets),
            torch.from_numpy(self.segments),
            torch.from_numpy(self.weights),
        )
