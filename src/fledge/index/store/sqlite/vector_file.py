"""The vectors, float32, a row a slot, in a file that only grows: ``vectors-GENERATION.f32``.

How much of it counts is said by the database, in the same transaction as the documents: rows are
written and synced before that commits; what stands beyond, after a kill, is overwritten by the next
writer.  Readers map the rows of their own state, which nobody changes.  Compacting writes
a new generation and removes the old file; who has it mapped keeps it.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from fledge.core.files import sync_folder
from fledge.index.store.protocol import Vectors


def vector_path(folder: Path, generation: int) -> Path:
    """The file of one generation."""
    return folder / f"vectors-{generation}.f32"


def write_vectors(path: Path, first: int, vectors: Vectors) -> int:
    """Put rows (n, D) at row ``first``, synced; returns their CRC-32.

    Whatever stood from there on is lost.  On failure, a full disk, the file ends at ``first``.
    """
    data = vectors.astype("<f4", copy=False).tobytes()
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    start = first * vectors.shape[1] * 4
    try:
        os.ftruncate(descriptor, start)
        view = memoryview(data)
        while view:
            view = view[os.pwrite(descriptor, view, start + len(data) - len(view)) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, start)
        raise
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)
    return zlib.crc32(data)


def map_vectors(path: Path, count: int, dimensions: int) -> Vectors:
    """The first ``count`` rows (count, D), mapped; raises FileNotFoundError, or ValueError when
    the file is shorter."""
    if count == 0 or dimensions == 0:
        return np.empty((0, dimensions), dtype=np.float32)
    return np.asarray(np.memmap(path, dtype="<f4", mode="r", shape=(count, dimensions)))


def remove_other_generations(folder: Path, generation: int) -> None:
    """Delete the files of all generations but one."""
    for path in folder.glob("vectors-*.f32"):
        if path != vector_path(folder, generation):
            path.unlink(missing_ok=True)
