"""Documents on their way into a store: embedded and committed in batches."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fledge.index.build_report import BuildReport
from fledge.index.cutting import Cut
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.loaded import Loaded
from fledge.index.store.protocol import Entry, Store

SECONDS = 10.0
"""What a batch may take: the most work that a kill can cost."""
CHUNKS = (64, 4096)
"""The smallest and the largest batch."""
CHARACTERS = 32_000_000
"""Text that waits for a commit, at most."""


@dataclass(frozen=True)
class _Waiting:
    loaded: Loaded
    cut: Cut
    texts: list[str]
    """Of the chunks of level 0."""
    fingerprint: str
    known: bool


class Stage:
    """Gathers documents until a batch is worth a commit.

    What one batch took sets the size of the next, whatever the embedder's speed.
    """

    def __init__(self, store: Store, embedder: IndexEmbedder, report: BuildReport) -> None:
        self.report = report
        self._store = store
        self.embedder = embedder
        self._waiting: list[_Waiting] = []
        self._gone: list[str] = []
        self._chunks = self._characters = 0
        self._target = 256
        self._begun = time.monotonic()

    def add(self, loaded: Loaded, cut: Cut, fingerprint: str, *, known: bool) -> None:
        """Take a document; ``known``: it is in the index already."""
        text = loaded.document.text
        texts = [text[chunk.start : chunk.end] for chunk in cut.chunks if chunk.level == 0]
        self._waiting.append(_Waiting(loaded, cut, texts, fingerprint, known))
        self.report.seconds["split"] += cut.seconds[0]
        self.report.seconds["terms"] += cut.seconds[1]
        self._chunks += len(texts)
        self._characters += len(text)
        if self._full():
            self.flush()

    def _full(self) -> bool:
        late = time.monotonic() - self._begun > SECONDS
        return late or self._chunks >= self._target or self._characters >= CHARACTERS

    def remove(self, ids: list[str]) -> None:
        """Take documents out, in the next commit."""
        self._gone += ids

    def flush(self) -> None:
        """Commit what waits."""
        if not self._waiting and not self._gone:
            return
        begun = time.monotonic()
        vectors = self._vectors()
        entries = [
            Entry(
                document=each.loaded.document,
                path=each.loaded.path,
                kind=each.loaded.kind,
                fingerprint=each.fingerprint,
                chunks=each.cut.chunks,
                terms=each.cut.terms,
                vectors=given,
                places=each.loaded.places,
                boxes=each.loaded.boxes,
            )
            for each, given in zip(self._waiting, vectors, strict=True)
        ]
        with self.report.timed("commit"):
            self._store.commit(entries, self._gone)
        self._count()
        speed = self._chunks / max(time.monotonic() - begun, 1e-3)
        self._target = int(min(max(speed * SECONDS / 2, CHUNKS[0]), CHUNKS[1]))
        self._waiting, self._gone = [], []
        self._chunks = self._characters = 0
        self._begun = time.monotonic()

    def _count(self) -> None:
        report = self.report
        known = sum(each.known for each in self._waiting)
        report.changed += known
        report.new += len(self._waiting) - known
        report.removed += len(self._gone)
        report.chunks += self._chunks
        report.characters += self._characters
        report.terms += sum(len(found) for each in self._waiting for found in each.cut.terms)

    def _vectors(self) -> list[NDArray[np.float32] | None]:
        """Vectors of each document's chunks, (c, D); texts that stayed as they were keep theirs."""
        size = self.embedder.dimensions
        if not size:
            return [None] * len(self._waiting)
        with self.report.timed("embed"):
            have = self._former([each for each in self._waiting if each.known])
            new = {text for each in self._waiting for text in each.texts if text not in have}
            wanted = sorted(new)
            if wanted:
                made = np.asarray(self.embedder.embed(wanted), dtype=np.float32)
                have |= dict(zip(wanted, made, strict=True))
        total = sum(len(each.texts) for each in self._waiting)
        self.report.embedded += len(wanted)
        self.report.reused += total - sum(
            text in new for each in self._waiting for text in each.texts
        )
        return [
            np.array([have[text] for text in each.texts], dtype=np.float32).reshape(-1, size)
            for each in self._waiting
        ]

    def _former(self, changed: list[_Waiting]) -> dict[str, NDArray[np.float32]]:
        """Vectors by text, of the former versions of these documents."""
        if not changed:
            return {}
        found: dict[str, NDArray[np.float32]] = {}
        with self._store.snapshot() as snapshot:
            for each in changed:
                try:
                    numbers = snapshot.of_document(each.loaded.document.id)
                except KeyError:  # removed by another process
                    continue
                texts = [seen.text for seen in snapshot.chunks(numbers)]
                vectors = snapshot.vectors(numbers)
                found |= {
                    text: vector
                    for text, vector in zip(texts, vectors, strict=True)
                    if vector.any()
                }
        return found
