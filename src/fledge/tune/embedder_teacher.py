"""Texts in, what an embedder that already knows says of them out: kept on disk as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import InputError
from fledge.core.files import read_json, replacing, value_digest, write_json
from fledge.core.protocols import Progress
from fledge.model.static_encoder import StaticEncoder, is_static
from fledge.model.text_encoder import TextEncoder
from fledge.train.device import bfloat16_pays, cpu_has_bfloat16

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

PIECE = 4096
"""Texts in a file: what a kill may cost."""


def open_teacher(path: str, limit: int) -> Embed:
    """The vectors of the embedder at ``path``; in bfloat16 where that is faster.

    A transformer reads at most ``limit`` tokens of a text: no more than is learnt from it.
    """
    if not Path(path).is_dir():
        raise InputError(f"teacher {path} is no folder", remedy="name an embedder's folder")
    if is_static(path):
        return StaticEncoder.load(path).vectors
    fast = cpu_has_bfloat16() and bfloat16_pays()
    encoder = TextEncoder.load(path, dtype="bfloat16" if fast else "float32")
    most = min(limit, encoder.settings.max_tokens)
    encoder.settings = encoder.settings.model_copy(update={"max_tokens": most})
    return encoder.vectors


def teacher_vectors(
    path: str,
    texts: Sequence[str],
    kept: Path,
    progress: Progress,
    *,
    limit: int = 512,
    embed: Embed | None = None,
) -> Vectors:
    """What the embedder at ``path`` makes of ``texts``: (N, S) float32, read from ``kept`` at need.

    What was computed for other texts or another teacher is computed anew.
    """
    key = value_digest([str(Path(path).resolve()), limit, list(texts)])
    note = kept / "of.json"
    if not note.is_file() or read_json(note) != key:
        for old in kept.glob("*.npy"):
            old.unlink()
        write_json(note, key)
    pieces = []
    with progress.bar("teacher", len(texts), "texts") as bar:
        for start in range(0, len(texts), PIECE):
            file = kept / f"{start:08d}.npy"
            if not file.is_file():
                embed = embed or open_teacher(path, limit)
                values = embed(texts[start : start + PIECE]).astype(np.float16)
                with replacing(file) as temporary, temporary.open("wb") as handle:
                    np.save(handle, values)
            pieces.append(np.load(file).astype(np.float32))
            bar.advance(len(pieces[-1]))
    return np.concatenate(pieces)


class Projection:
    """The teacher's vectors without their mean, in their first ``size`` principal directions.

    A mean that all texts share says nothing about any of them, and the directions in order of
    their variance are what cutting dimensions off wants (arXiv:2205.13147).
    """

    def __init__(self, vectors: Vectors, size: int) -> None:
        if size > vectors.shape[1]:
            raise InputError(
                f"table.dimensions = {size}, but the teacher has {vectors.shape[1]}",
                remedy=f"at most {vectors.shape[1]}",
            )
        self.mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - self.mean
        _, directions = np.linalg.eigh(centred.T @ centred)
        self.directions = directions[:, ::-1][:, :size]  # largest variance first
        signs = np.sign(self.directions[np.abs(self.directions).argmax(0), range(size)])
        self.directions = self.directions * signs  # else a library decides

    def __call__(self, vectors: Vectors) -> Vectors:
        """(N,S) -> (N,size), unit length."""
        found: NDArray[np.float64] = (vectors - self.mean) @ self.directions
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found.astype(np.float32)
