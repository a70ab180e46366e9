"""A small folder of files, and an embedder that counts what it is asked."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TEXTS = {
    "a.md": "# Arches\n\nThe arch bridge in Lucerne is made of stone.\n\n"
    "## Steel\n\nSteel came later.\n",
    "b.txt": "Suspension bridges carry the deck on cables. The Golden Gate opened in 1937.\n",
    "zh/c.txt": "青马大桥是香港的一座悬索桥。它连接青衣岛和马湾岛。\n",
    "notes.jsonl": '{"id": "n1", "text": "First note on rivers."}\n'
    '{"id": "n2", "text": "Second note on piers."}\n',
}


def write_files(folder: Path, texts: dict[str, str] = TEXTS) -> Path:
    """The files of ``texts`` below ``folder``."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


class CountingEmbedder:
    """Vectors that depend on the text alone; fails when it meets the word "explode"."""

    name, revision, dimensions, languages = "counting", "1", 8, ("en", "zh")

    def __init__(self, revision: str = "1") -> None:
        self.revision = revision
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any("explode" in text for text in texts):
            raise ConnectionError("the embedder is gone")
        self.asked += texts
        return self.embed_queries(texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        drawn = (np.random.default_rng(zlib.crc32(text.encode())) for text in texts)
        vectors = np.array([rng.standard_normal(8) for rng in drawn], dtype=np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def serves(self, language: str) -> float:
        return 1.0

    def close(self) -> None:
        return None


class NoEmbedder(CountingEmbedder):
    """The embedder that embeds nothing."""

    name, revision, dimensions = "none", "", 0
