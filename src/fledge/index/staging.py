"""Documents on their way into a store: cut, turned into terms, embedded, committed in batches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import FledgeError
from fledge.index.build_report import BuildReport
from fledge.index.chunk import Chunk
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.loaded import Loaded, Unreadable
from fledge.index.split.config import SplitConfig
from fledge.index.split.splitting import split
from fledge.index.store.protocol import Entry, Store
from fledge.index.terms import terms

SECONDS = 10.0
"""What a batch may take: the most work that a kill can cost."""
CHUNKS = (64, 4096)
"""The smallest and the largest batch."""
CHARACTERS = 32_000_000
"""Text that waits for a commit, at most."""


@dataclass(frozen=True)
class _Waiting:
    loaded: Loaded
    chunks: tuple[Chunk, ...]
    texts: list[str]
    """Of the chunks of level 0."""
    terms: tuple[tuple[str, ...], ...]
    fingerprint: str
    known: bool


class Stage:
    """Gathers documents until a batch is worth a commit.

    What one batch took sets the size of the next, whatever the embedder's speed.
    """

    def __init__(
        self, store: Store, config: SplitConfig, embedder: IndexEmbedder, report: BuildReport
    ) -> None:
        self.report = report
        self._store = store
        self._config = config
        self._embedder = embedder
        self._waiting: list[_Waiting] = []
        self._gone: list[str] = []
        self._chunks = self._characters = 0
        self._target = 256
        self._begun = time.monotonic()

    def add(self, loaded: Loaded, fingerprint: str, *, known: bool) -> Unreadable | None:
        """Take a document; ``known``: it is in the index already.  Says why it cannot be taken."""
        try:
            waiting = self._cut(loaded, fingerprint, known)
        except FledgeError:
            raise  # not this document's fault
        except Exception as error:
            evidence = f"{type(error).__name__}: {error}"
            return Unreadable(path=loaded.path, reason="split_failed", evidence=evidence)
        self._waiting.append(waiting)
        self._chunks += len(waiting.texts)
        self._characters += len(loaded.document.text)
        if self._full():
            self.flush()
        return None

    def _full(self) -> bool:
        late = time.monotonic() - self._begun > SECONDS
        return late or self._chunks >= self._target or self._characters >= CHARACTERS

    def remove(self, ids: list[str]) -> None:
        """Take documents out, in the next commit."""
        self._gone += ids

    def _cut(self, loaded: Loaded, fingerprint: str, known: bool) -> _Waiting:
        text = loaded.document.text
        with self.report.timed("split"):
            embedder: Any = self._embedder if self._embedder.dimensions else None
            chunks = split(loaded, self._config, embedder=embedder)
            texts = [text[chunk.start : chunk.end] for chunk in chunks if chunk.level == 0]
        with self.report.timed("terms"):
            found = tuple(tuple(terms(each)) for each in texts)
        return _Waiting(loaded, chunks, texts, found, fingerprint, known)

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
                chunks=each.chunks,
                terms=each.terms,
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
        report.terms += sum(len(found) for each in self._waiting for found in each.terms)

    def _vectors(self) -> list[NDArray[np.float32] | None]:
        """Vectors of each document's chunks, (c, D); texts that stayed as they were keep theirs."""
        size = self._embedder.dimensions
        if not size:
            return [None] * len(self._waiting)
        with self.report.timed("embed"):
            have = self._former([each for each in self._waiting if each.known])
            new = {text for each in self._waiting for text in each.texts if text not in have}
            wanted = sorted(new)
            if wanted:
                made = np.asarray(self._embedder.embed(wanted), dtype=np.float32)
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
