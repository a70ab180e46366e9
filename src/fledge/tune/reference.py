"""Groups and the model they start from in, the log-probability of every answer's token out.

Computed once, before the first step, and kept in ``state/reference`` in parts: a run that is
killed meanwhile computes only the parts that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fledge.core.files import read_json, replacing, value_digest, write_json
from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.world import World
from fledge.tune.groups import Group, Values, digest_of
from fledge.tune.log_probs import target_log_probs
from fledge.tune.pair_loader import read_values

PART = 256
"""Groups of a part."""

TOKENS = 4096
"""Tokens of a batch, about."""


class Reference:
    """What a model says of answers before it is trained, on the disk of a stage."""

    def __init__(self, model: Decoder, folder: Path, row: int, world: World) -> None:
        """``model`` must still have whole weights, and on each process the same."""
        self._model, self._folder, self.row, self._world = model, folder, row, world

    def read(self, name: str, groups: Sequence[Group], progress: Progress) -> list[Group]:
        """The groups, with the log-probability of each token that counts as their signals.

        ``name`` tells several lists of a stage apart.  The processes share the work.
        """
        if not groups:
            return []
        folder = self._folder / name
        self._world.first(lambda: self._open(folder, groups))
        parts = [groups[at : at + PART] for at in range(0, len(groups), PART)]
        mine = range(self._world.rank, len(parts), self._world.size)
        with progress.bar(f"reference, {name}", len(mine), "parts") as bar:
            for number in mine:
                path = _path(folder, number)
                if not path.is_file():
                    _write(path, self._compute(parts[number]))
                bar.advance()
        self._world.barrier()
        return [
            group.with_signals(values)
            for number, part in enumerate(parts)
            for group, values in zip(part, _read(_path(folder, number), part), strict=True)
        ]

    def _open(self, folder: Path, groups: Sequence[Group]) -> None:
        """Make the folder; what other groups, rows or number types left there goes."""
        dtype = str(self._model.compute_dtype)
        key = value_digest({"groups": digest_of(groups), "row": self.row, "dtype": dtype})
        note = folder / "groups.json"
        if note.is_file() and read_json(note) != {"key": key}:
            for path in folder.glob("*.npy"):
                path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(note, {"key": key})

    def _compute(self, groups: Sequence[Group]) -> list[tuple[Values, ...]]:
        model = self._model

        @torch.no_grad()
        def score(batch: Batch) -> Tensor:
            return target_log_probs(model, batch.to(model.device))

        rows = max(1, TOKENS // self.row)
        training = model.training
        model.eval()
        found = read_values(groups, score, row=self.row, batch_rows=rows)
        model.train(training)
        return found


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npy"


def _write(path: Path, found: Sequence[tuple[Values, ...]]) -> None:
    """All numbers of a part in one row: their places follow from the groups."""
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, np.concatenate([one for values in found for one in values]))


def _read(path: Path, groups: Sequence[Group]) -> list[tuple[Values, ...]]:
    sizes = [[sum(answer.mask[1:]) for answer in group.answers] for group in groups]
    flat = np.load(path)
    ends = np.cumsum([size for each in sizes for size in each])
    pieces = iter(np.split(flat, ends[:-1]))
    return [tuple(next(pieces) for _ in each) for each in sizes]
