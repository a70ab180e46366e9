"""Vectors by the hash of their text, in one SQLite file: what was embedded once stays embedded.

Several processes may use the file.  A process that is killed loses the texts of the slice it was
at; the next one finds all others here.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fledge.core.errors import FledgeError
from fledge.core.home import home_folder
from fledge.core.protocols import Progress, Silent
from fledge.index.embed.protocol import IndexEmbedder, Vectors

SLICE = 256
"""Texts embedded, and then kept, at a time."""
SHOWN = 2 * SLICE
"""Texts from which on progress is shown: less is done in a moment."""
BUSY_SECONDS = 60.0
ASKED = 500
"""Hashes of a query, below SQLite's limit of variables."""
TABLE = """CREATE TABLE IF NOT EXISTS vectors (
  revision TEXT NOT NULL, text BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (revision, text)
) WITHOUT ROWID"""


def default_cache() -> Path:
    """Where vectors are kept for all indexes of a user; deleting the file costs time only."""
    return home_folder() / "embeddings.sqlite"


class Cached:
    """``embedder``, whose passages are embedded once, shown as they go, and kept in ``path``.

    Equal texts of a call are embedded once even without a file.
    """

    def __init__(
        self, embedder: IndexEmbedder, path: Path | None, progress: Progress | None = None
    ) -> None:
        self.embedder, self._progress = embedder, progress or Silent()
        self.name, self.dimensions = embedder.name, embedder.dimensions
        self.languages = embedder.languages
        self._kept = Kept(path, self._progress) if path is not None else None

    @property
    def revision(self) -> str:
        """Of the embedder."""
        return self.embedder.revision

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages: (N, D) float32."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        found = self._kept.read(self.revision, keys, self.dimensions) if self._kept else {}
        absent = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        # Longest first, so that a slice has texts of like length and what is slow comes first.
        order = sorted(absent, key=lambda key: (-len(absent[key]), key))
        shown = self._progress if len(absent) >= SHOWN else Silent()
        with shown.bar("embed", len(keys), "chunks", done=len(keys) - len(absent)) as bar:
            for start in range(0, len(order), SLICE):
                part = order[start : start + SLICE]
                vectors = self.embedder.embed([absent[key] for key in part])
                if self._kept:
                    self._kept.write(self.revision, part, vectors)
                found |= dict(zip(part, vectors, strict=True))
                bar.advance(len(part))
        out = np.zeros((len(keys), self.dimensions), dtype=np.float32)
        for number, key in enumerate(keys):
            out[number] = found[key]
        return out

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries: (N, D) float32; they are not kept."""
        return self.embedder.embed_queries(texts)

    def serves(self, language: str) -> float:
        """As the embedder."""
        return self.embedder.serves(language)

    def close(self) -> None:
        """Let go of the file, and of the embedder."""
        if self._kept:
            self._kept.close()
        self.embedder.close()


class Kept:
    """The file.  When it can no longer be written, that is said once and embedding goes on."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path, self._progress, self._full = path, progress, False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(TABLE)
        except (OSError, sqlite3.Error) as error:
            raise self._trouble(error) from None

    def read(self, revision: str, keys: Sequence[bytes], dimensions: int) -> dict[bytes, Vectors]:
        """The vectors (D,) that are there."""
        found: dict[bytes, Vectors] = {}
        unique = list(dict.fromkeys(keys))
        try:
            for start in range(0, len(unique), ASKED):
                part = unique[start : start + ASKED]
                marks = ",".join("?" * len(part))
                query = f"SELECT text, vector FROM vectors WHERE revision = ? AND text IN ({marks})"
                for key, blob in self._file.execute(query, [revision, *part]):
                    if len(blob) == 4 * dimensions:
                        found[key] = np.frombuffer(blob, dtype="<f4")
        except sqlite3.Error as error:
            raise self._trouble(error) from None
        return found

    def write(self, revision: str, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Keep vectors (N, D), all or none."""
        if self._full:
            return
        rows = [
            (revision, key, vector.astype("<f4").tobytes())
            for key, vector in zip(keys, vectors, strict=True)
        ]
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            self._full = True
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            self._progress.say(f"vectors are no longer kept: {self._path}: {error}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _trouble(self, error: Exception) -> FledgeError:
        return FledgeError(
            f"the vectors kept in {self._path} cannot be used: {error}",
            remedy="delete the file; what it held is embedded again",
        )
