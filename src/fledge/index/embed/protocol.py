"""What an index asks of an embedder: vectors for passages and for queries, and whom it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class IndexEmbedder(Protocol):
    """Texts to vectors of unit length.  N texts, D dimensions."""

    @property
    def name(self) -> str:
        """What people call it: "minilm", a folder's name, a server's model."""

    @property
    def revision(self) -> str:
        """Of weights and settings: vectors of one revision may be compared."""

    @property
    def dimensions(self) -> int:
        """D; 0 for the embedder that embeds nothing (spec "none")."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages it serves, as ``fledge.index.language`` names them; empty: not known."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages: (N, D) float32."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, comparable with those of passages: (N, D) float32."""

    def serves(self, language: str) -> float:
        """How far its ranking can be trusted for queries in ``language``: 0 not at all, 1 fully."""

    def close(self) -> None:
        """Let go of files and connections."""
