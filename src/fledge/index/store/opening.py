"""Which store an index folder holds, and how to make one: ``open_store``, ``create_store``."""

from __future__ import annotations

from pathlib import Path

from fledge.core.errors import InputError
from fledge.index.store.protocol import Store
from fledge.index.store.sqlite.store import SqliteStore, holds_index


def open_store(folder: Path) -> Store:
    """The index in ``folder``; raises InputError when there is none."""
    if not holds_index(folder):
        raise InputError(
            f"{folder} holds no index",
            remedy=f"make one: fledge index build --input PATH --out {folder}",
        )
    return SqliteStore(folder)
