"""Units in, the same with a break wherever the sense changes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from fledge.index.split.unit import Break, Unit

WINDOW = 1
"""Units on each side of a gap that are embedded together: one sentence alone says too little."""


class Embeds(Protocol):
    """What gives vectors of texts; any embedder of fledge."""

    def embed(self, texts: Sequence[str]) -> Any:
        """One vector of unit length a text."""


def by_sense(units: Sequence[Unit], text: str, embedder: Embeds, threshold: float) -> list[Unit]:
    """Units with ``Break.ALWAYS`` where what follows is far from what went before.

    Far: the cosine distance across the gap is above the quantile ``threshold`` of all gaps of the
    text.  Fewer than four units stay as they are, since they have no quantiles.
    """
    if len(units) < 4:
        return list(units)
    gaps = range(1, len(units))
    before = [text[units[max(0, at - 1 - WINDOW)].start : units[at - 1].end] for at in gaps]
    after = [text[units[at].start : units[min(len(units) - 1, at + WINDOW)].end] for at in gaps]
    vectors = np.asarray(embedder.embed(before + after), dtype=np.float32)
    distances = 1.0 - (vectors[: len(gaps)] * vectors[len(gaps) :]).sum(axis=1)
    far = distances > np.quantile(distances, threshold)
    return [
        replace(unit, strength=Break.ALWAYS)
        if number and far[number - 1] and unit.strength > Break.NEVER
        else unit
        for number, unit in enumerate(units)
    ]
