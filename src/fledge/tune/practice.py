"""Two loaders in, one out: what is practised comes first, everything else after it.

Some skills come all at once and late: a small model that shall copy numbers gets their digits right
and their order wrong until, after some hundred thousand tokens of little else, it copies them all.
Strewn among other conversations the same rows do not get it there.
"""

from __future__ import annotations

from collections.abc import Sequence

from fledge.data.conversations import Rendered
from fledge.train.batch import Batch
from fledge.tune.loader import ConversationLoader

SEGMENTS = 1 << 41
"""Segments of what is practised are numbered from here on: beyond all others."""


class PractisedLoader:
    """Batches of ``practice``, once through, and then those of ``loader``.

    Rows that practice leaves empty in its last batch stay empty.
    """

    def __init__(
        self, practice: Sequence[Rendered], loader: ConversationLoader, batch_rows: int, fill: int
    ) -> None:
        self._first = ConversationLoader(
            practice,
            context=loader.context,
            batch_rows=batch_rows,
            seed=loader.seed,
            fill=fill,
            epochs=1,
            first_segment=SEGMENTS,
        )
        self._then = loader
        self.practised = self._first.steps or 0
        """Batches of practice."""

    @property
    def steps(self) -> int | None:
        """Batches until the data ends; None when it does not."""
        return None if self._then.steps is None else self.practised + self._then.steps

    def fingerprint(self) -> str:
        """Names the data and its order."""
        return f"{self._first.fingerprint()}:{self._then.fingerprint()}"

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``."""
        if step < self.practised:
            return self._first[step]
        return self._then[step - self.practised]
