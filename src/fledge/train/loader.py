"""Token shards in, packed batches out: any batch at once, by its number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fledge.core.errors import InputError
from fledge.train.batch import Batch, Rows, RowSource
from fledge.train.mixture import Mixture
from fledge.train.shards import TokenShards, check_alike
from fledge.train.sources import BestFitRows, StreamRows

Packed = Literal["best_fit", "stream"]
"""How documents share rows: ``BestFitRows`` or ``StreamRows``."""


@dataclass(frozen=True, kw_only=True)
class SourceUse:
    """What a run read of one source."""

    folder: str
    rows: int
    passes: float
    """Epochs over the source."""


class PackedLoader:
    """Batches of ``batch_rows`` rows of ``context`` tokens from one or several token folders.

    ``others``: further shards and their shares of the rows; ``shards`` get the rest.  An epoch
    is as many rows as all of them hold together, though each goes through its own.  With
    ``epochs`` the data ends there: later rows are empty, which fills up the last batch.  Without,
    epochs follow each other for ever.  Raises InputError when there is nothing to predict, or
    when the shards were written with different tokenizers.
    """

    def __init__(
        self,
        shards: TokenShards,
        *,
        context: int,
        batch_rows: int,
        seed: int,
        epochs: float | None = None,
        packing: Packed = "best_fit",
        others: Sequence[tuple[TokenShards, float]] = (),
    ) -> None:
        self._shards = [shards, *(other for other, _ in others)]
        rest = 1.0 - sum(share for _, share in others)
        if rest < -1e-9:
            raise InputError("the shares of a mixture exceed 1", remedy="lower them")
        check_alike(self._shards)
        for each in self._shards:
            if each.tokens < 2:
                raise InputError(
                    f"{each.folder} has no {each.split} tokens to learn", remedy="check the corpus"
                )
        kind = BestFitRows if packing == "best_fit" else StreamRows
        sources: list[RowSource] = [kind(s, context=context, seed=seed) for s in self._shards]
        self._mixture: Mixture | None = None
        if others:
            shares = [max(0.0, rest), *(share for _, share in others)]
            self._mixture = Mixture(sources, shares, seed=seed)
        self._source: RowSource = self._mixture or sources[0]
        self.context = context
        self.batch_rows = batch_rows
        self.rows_per_epoch = self._source.rows_per_epoch
        self._limit = None if epochs is None else max(1, round(epochs * self.rows_per_epoch))

    @property
    def steps(self) -> int | None:
        """Batches until the data ends; None when it does not."""
        return None if self._limit is None else math.ceil(self._limit / self.batch_rows)

    @property
    def tokens(self) -> int:
        """Tokens of an epoch."""
        return self._source.tokens

    @property
    def padding_share(self) -> float:
        """Share of the places of an epoch's rows that hold no token."""
        return 1.0 - self.tokens / (self.rows_per_epoch * self.context)

    def fingerprint(self) -> str:
        """Names the data and its order."""
        return f"{self._source.fingerprint()}:{self.batch_rows}:{self._limit}"

    def usage(self, steps: int) -> list[SourceUse]:
        """What the first ``steps`` batches read of each source."""
        rows = steps * self.batch_rows
        rows = rows if self._limit is None else min(rows, self._limit)
        counts = self._mixture.read(rows) if self._mixture else [rows]
        sources = self._mixture.sources if self._mixture else (self._source,)
        return [
            SourceUse(folder=str(s.folder), rows=n, passes=n / source.rows_per_epoch)
            for s, source, n in zip(self._shards, sources, counts, strict=True)
        ]

    def counts(self, steps: int) -> dict[str, int]:
        """For the manifest: rows read of each folder when there are several."""
        uses = self.usage(steps)
        if len(uses) == 1:
            return {}
        return {
            f"rows.{number}.{Path(use.folder).name}": use.rows for number, use in enumerate(uses)
        }

    def lines(self, steps: int) -> list[str]:
        """For people: how full the rows are, and how often each folder is read."""
        uses, padding = self.usage(steps), self.padding_share
        total = max(1, sum(use.rows for use in uses))
        return [f"rows of {self.context} tokens, {padding:.2%} of them padding"] + [
            f"{use.folder}: {use.rows / total:.1%} of the rows, {use.passes:.2f} passes"
            for use in uses
        ]

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``: rows [step * batch_rows, (step + 1) * batch_rows)."""
        return self.rows(range(step * self.batch_rows, (step + 1) * self.batch_rows))

    def rows(self, numbers: Iterable[int]) -> Batch:
        """The rows with these numbers, counted from the start of training."""
        return self.unfinished(numbers).batch()

    def unfinished(self, numbers: Iterable[int]) -> Rows:
        """The rows with these numbers, as arrays."""
        numbers = list(numbers)
        rows = Rows(len(numbers), self.context, self._shards[0].endoftext_id)
        for place, number in enumerate(numbers):
            if self._limit is None or number < self._limit:
                self._source.fill(rows, place, number)
        return rows
