"""A table of vectors in, an embedder out: no PyTorch, thousands of texts a second."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from fledge.index.embed.protocol import Vectors
from fledge.index.embed.revision import folder_revision
from fledge.index.embed.trust import GATE, read_languages, trust

UNMEASURED = {"en": 1.0}
"""Of a table that nothing is said of: most were made for English."""


class Table(Protocol):
    """What gives the vectors (``fledge.model.static_encoder``)."""

    dimensions: int

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """One vector of unit length a text: (N, D)."""


class StaticEmbedder:
    """The mean of a text's rows in a table; it is trusted as ``languages.json`` beside it says."""

    def __init__(self, table: Table, folder: Path, name: str = "") -> None:
        self._table, self._folder = table, folder
        self.name, self.dimensions = name or folder.resolve().name, table.dimensions
        measured = read_languages(folder)
        self._trust = UNMEASURED if measured is None else measured
        self.languages = tuple(sorted(key for key, value in self._trust.items() if value >= GATE))

    @cached_property
    def revision(self) -> str:
        """Of table, tokenizer and settings."""
        return folder_revision(self._folder)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages: (N, D) float32."""
        return self._table.vectors(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries: (N, D) float32; the same as of passages."""
        return self._table.vectors(texts)

    def serves(self, language: str) -> float:
        """The measured figure of a language."""
        return trust(self._trust, language)

    def close(self) -> None:
        """Nothing to let go of."""
