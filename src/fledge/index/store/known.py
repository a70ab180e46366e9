"""Rows of a table of documents in, what an index says of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fledge.index.store.protocol import Known

COLUMNS = "id, path, hash, fingerprint, searched"
"""What ``known_documents`` takes, in this order."""


def known_documents(rows: Iterable[tuple[Any, ...]], text: Callable[[Any], str]) -> list[Known]:
    """In order of their ids; ``text`` turns a stored id or path back into what it was."""
    found = (
        Known(id=text(id), path=text(path), hash=hash, fingerprint=fingerprint, chunks=searched)
        for id, path, hash, fingerprint, searched in rows
    )
    return sorted(found, key=lambda known: known.id)
