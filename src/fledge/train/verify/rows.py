"""Checks of what the real loader hands over, against the shard files read without it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.core.files import read_json
from fledge.train.batch import Batch
from fledge.train.loader import PackedLoader
from fledge.train.shards import TokenShards
from fledge.train.verify.check import Check, Subject, skipped

ROWS = 8
SEARCHED = 24
"""Stretches of a document looked up in the shard files."""

Ids = NDArray[np.int64]


def label_alignment(subject: Subject) -> Check:
    """Every target is the token that follows: in the row, and in the shard files."""
    name = "label-alignment"
    if subject.tokens is None:
        return skipped(name, "needs token shards")
    batch, end = _batch(subject)
    checked = wrong = 0
    stretches: list[Ids] = []
    for ids, targets, weights in _segments(batch):
        checked += len(ids)
        wrong += int((targets[:-1] != ids[1:]).sum())
        # The last token of a stretch predicts the next of its document, its end, or nothing.
        goes_on = weights[-1] > 0 and targets[-1] != end
        stretches.append(np.append(ids, targets[-1]) if goes_on else ids)
    lost = [s for s in stretches[:SEARCHED] if not _is_in_shards(s, subject.tokens)]
    looked = min(len(stretches), SEARCHED)
    return Check(
        name,
        checked > 0 and wrong == 0 and not lost,
        f"{checked:,} targets of {subject.data} through the loader: {wrong} differ from the next "
        f"token; of {looked} stretches {looked - len(lost)} stand in the shard files with the "
        f"token they predict",
    )


def loss_masks(subject: Subject) -> Check:
    """Padding has no weight, no row is without weight, and no weight is odd."""
    if subject.tokens is None:
        return skipped("loss-masks", "needs token shards")
    batch, _ = _batch(subject)
    return judge_masks("loss-masks", batch, subject.data)


def judge_masks(name: str, batch: Batch, what: str) -> Check:
    """The verdict on the weights of a batch whose rows should all teach something."""
    text, weights = batch.segments >= 0, batch.weights
    padded = int(((weights != 0) & ~text).sum())
    empty = int((weights > 0).any(dim=1).logical_not().sum())
    odd = int(((weights < 0) | ~weights.isfinite()).sum())
    places, trained = int(text.sum()), int((weights > 0).sum())
    return Check(
        name,
        padded == empty == odd == 0 and trained > 0,
        f"{len(weights)} rows of {what}: {trained:,} of {places:,} tokens are learnt "
        f"({trained / max(places, 1):.1%}); {padded} places of padding with weight, {empty} rows "
        f"without any, {odd} weights negative or not finite",
    )


def _batch(subject: Subject) -> tuple[Batch, int]:
    """Rows of the first epoch, as training reads them, and the id that ends a document."""
    assert subject.tokens is not None
    shards = TokenShards(subject.tokens, "train")
    context = subject.model.config.context
    loader = PackedLoader(shards, context=context, batch_rows=ROWS, seed=subject.seed, epochs=1)
    batch = loader[0]
    filled = (batch.segments >= 0).any(dim=1)  # past the end of little data rows are empty
    return batch.each(lambda part: part[filled]), shards.end_id


def _segments(batch: Batch) -> Iterator[tuple[Ids, Ids, NDArray[np.float32]]]:
    """(ids, targets, weights) of each stretch of one document in a row."""
    for row in range(len(batch.ids)):
        ids, targets, segments, weights = (part[row].numpy() for part in batch[:4])
        cuts = np.flatnonzero(np.diff(segments)) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(ids)], strict=True):
            if segments[start] >= 0:
                yield ids[start:stop], targets[start:stop], weights[start:stop]


def _is_in_shards(stretch: Ids, tokens: Path) -> bool:
    """Whether these tokens stand side by side in a shard file, whatever the loader thinks."""
    index = read_json(tokens / "index.json")
    for shard in index["splits"]["train"]["shards"]:
        path = tokens / str(shard["file"])
        array = np.load(path, mmap_mode="r")
        wanted = stretch.astype(array.dtype).tobytes()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            at = text.find(wanted, array.offset)
            while at >= 0:
                if (at - array.offset) % array.dtype.itemsize == 0:
                    return True
                at = text.find(wanted, at + 1)
    return False
