"""Several sources of rows in, one out: each has its share, evenly spread.  Pure numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fledge.train.batch import Rows, RowSource

CYCLE = 1 << 16
"""Rows after which the order of the sources repeats; shares hold to one part in this."""


class Mixture:
    """Rows of several sources, interleaved so that any stretch of them keeps the shares.

    Within a cycle, source k has n_k rows (largest remainder), the i-th of them at about
    (i + u_k) / n_k of the way, where the phase u_k comes from the seed: among any rows in
    sequence the number of a source's differs from its share by less than the number of sources.
    Each source goes through its own epochs.
    """

    def __init__(self, sources: Sequence[RowSource], shares: Sequence[float], *, seed: int) -> None:
        self.sources = tuple(sources)
        self.shares = tuple(share / sum(shares) for share in shares)
        self._seed = seed
        self._counts = largest_remainder(self.shares, CYCLE)
        phases = np.random.Generator(np.random.PCG64([seed, len(shares)])).random(len(shares))
        at = [(np.arange(n) + u) / max(n, 1) for n, u in zip(self._counts, phases, strict=True)]
        owner = np.repeat(np.arange(len(shares)), self._counts)
        self._owner = owner[np.argsort(np.concatenate(at), kind="stable")]
        self._rank = np.empty(CYCLE, dtype=np.int64)
        for source in range(len(shares)):
            mine = self._owner == source
            self._rank[mine] = np.arange(int(mine.sum()))
        self.rows_per_epoch = sum(source.rows_per_epoch for source in self.sources)

    @property
    def tokens(self) -> int:
        """Tokens of all sources together."""
        return sum(source.tokens for source in self.sources)

    def fingerprint(self) -> str:
        """Names the data and the order of its rows."""
        parts = zip(self.sources, self.shares, strict=True)
        mixed = "+".join(f"{share!r}*({source.fingerprint()})" for source, share in parts)
        return f"mixture:{self._seed}:{mixed}"

    def fill(self, rows: Rows, place: int, number: int) -> None:
        """Write row ``number``, counted from the start of training, at ``place``."""
        source, own = self.locate(number)
        self.sources[source].fill(rows, place, own)

    def locate(self, number: int) -> tuple[int, int]:
        """The source of row ``number``, and the row's number within that source."""
        cycle, place = divmod(number, CYCLE)
        source = int(self._owner[place])
        return source, cycle * int(self._counts[source]) + int(self._rank[place])

    def read(self, rows: int) -> list[int]:
        """How many of the first ``rows`` rows are of each source."""
        cycles, rest = divmod(rows, CYCLE)
        begun = np.bincount(self._owner[:rest], minlength=len(self.sources))
        return [int(n) for n in cycles * self._counts + begun]


def largest_remainder(shares: Sequence[float], total: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to ``shares`` that add up to ``total`` (Hamilton's method)."""
    exact = np.array(shares) / sum(shares) * total
    counts = np.floor(exact).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts
