"""Which store an index folder names, opened or made.

The folder's ``manifest.json`` says which: "sqlite", "lance", or the URL of a PostgreSQL server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.index.store.protocol import Store

MANIFEST = "manifest.json"
SERVERS = ("postgresql://", "postgres://")


def find_index(path: Path) -> Path:
    """The folder of the index that ``path`` means: itself, or that of a run or of its stage."""
    places = (path, path / "index", path / "ground" / "index")
    return next((place for place in places if holds_store(place)), path)


def store_kind(folder: Path) -> str:
    """What the folder's index is kept in."""
    path = folder / MANIFEST
    found = read_json(path) if path.is_file() else {}
    kind = found.get("store", "sqlite") if isinstance(found, dict) else "sqlite"
    return str(kind)


def check_kind(kind: str) -> None:
    """Raise InputError for a kind of store that there is not, or that must not be written down."""
    if kind.startswith(SERVERS):
        from fledge.index.store.postgres.schema import split_url

        split_url(kind)
    elif kind not in ("sqlite", "lance"):
        raise _unknown(kind)


def open_store(folder: Path) -> Store:
    """The index in ``folder``; raises InputError when there is none."""
    if not holds_store(folder):
        raise InputError(
            f"{folder} holds no index",
            remedy=f"make one: fledge index build --input PATH --out {folder}",
        )
    kind = store_kind(folder)
    if kind == "sqlite":
        from fledge.index.store.sqlite.store import SqliteStore

        return SqliteStore(folder)
    if kind == "lance":
        from fledge.index.store.lance.store import LanceStore

        return LanceStore(folder)
    if kind.startswith(SERVERS):
        from fledge.index.store.postgres.store import PostgresStore

        return PostgresStore(kind)
    raise _unknown(kind)


def create_store(folder: Path, kind: str, settings: dict[str, Any]) -> Store:
    """An empty index of one kind in ``folder``."""
    if kind == "sqlite":
        from fledge.index.store.sqlite.store import SqliteStore

        return SqliteStore.create(folder, settings)
    if kind == "lance":
        from fledge.index.store.lance.store import LanceStore

        return LanceStore.create(folder, settings)
    if kind.startswith(SERVERS):
        from fledge.index.store.postgres.store import PostgresStore

        return PostgresStore.create(kind, settings)
    raise _unknown(kind)


def holds_store(folder: Path, kind: str = "") -> bool:
    """Whether there is an index in ``folder``; ``kind``: not the manifest's, but this."""
    kind = kind or store_kind(folder)
    if kind == "sqlite":
        from fledge.index.store.sqlite.store import holds_index

        return holds_index(folder)
    if kind == "lance":
        from fledge.index.store.lance.store import holds_lance

        return holds_lance(folder)
    if kind.startswith(SERVERS):
        from fledge.index.store.postgres.store import holds_postgres

        return holds_postgres(kind)
    raise _unknown(kind)


def _unknown(kind: str) -> InputError:
    return InputError(f"store = {kind!r} is not known", remedy="sqlite, lance or postgresql://…")
