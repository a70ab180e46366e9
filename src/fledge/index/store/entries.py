"""Entries before they are stored: whether they are what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fledge.core.errors import InputError
from fledge.index.store.protocol import Entry


def checked_entries(
    upserts: Iterable[Entry], deletes: Iterable[str]
) -> tuple[list[Entry], list[str]]:
    """Both as lists; raises ValueError, naming the document, for what no store may take."""
    entries, gone = list(upserts), list(dict.fromkeys(deletes))
    ids = [entry.document.id for entry in entries]
    twice = {id for id in ids if ids.count(id) > 1} if len(set(ids)) < len(ids) else set()
    if twice or set(ids) & set(gone):
        names = sorted(twice or set(ids) & set(gone))
        raise ValueError(f"documents named twice in one commit: {names[:3]}")
    for entry in entries:
        _check(entry)
    return entries, gone


def dimensions_of(entries: Sequence[Entry], before: int) -> int:
    """Of the vectors, given those of a store (0: none yet); raises InputError when they differ."""
    for entry in entries:
        if entry.vectors is None or not len(entry.vectors):
            continue
        found = entry.vectors.shape[1]
        if before not in (0, found):
            raise InputError(
                f"{entry.document.id!r} has vectors of {found} dimensions, the index of {before}",
                remedy="build the index again with the new embedder (--force)",
            )
        before = found
    return before


def searched(entry: Entry) -> list[int]:
    """Places of the chunks of level 0 in the entry's list."""
    return [at for at, chunk in enumerate(entry.chunks) if chunk.level == 0]


def _check(entry: Entry) -> None:
    name = repr(entry.document.id)
    if not entry.document.id:
        raise ValueError("a document has no id")
    size, count = len(entry.document.text), len(searched(entry))
    for chunk in entry.chunks:
        if not 0 <= chunk.start < chunk.end <= size:
            raise ValueError(f"{name}: chunk [{chunk.start}, {chunk.end}) of {size} characters")
        if chunk.parent is not None and not 0 <= chunk.parent < len(entry.chunks):
            raise ValueError(f"{name}: a chunk's parent is {chunk.parent} of {len(entry.chunks)}")
    if len(entry.terms) != count:
        raise ValueError(f"{name}: terms of {len(entry.terms)} chunks where {count} are searched")
    if entry.vectors is not None and (entry.vectors.ndim != 2 or len(entry.vectors) != count):
        raise ValueError(f"{name}: vectors {entry.vectors.shape} where {count} chunks are searched")
    if entry.vectors is not None and not np.isfinite(entry.vectors).all():
        raise ValueError(f"{name}: a vector holds NaN or infinity")
    before = 0
    for place in entry.places:
        if not before <= place.start < place.end <= size:
            raise ValueError(f"{name}: place {place.label!r} is out of order or outside the text")
        before = place.end
