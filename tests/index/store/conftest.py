"""Every kind of store, made and opened in the same way."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from store_samples import SETTINGS, Opener

from fledge.index.store.protocol import Store
from fledge.index.store.sqlite.store import SqliteStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server with pgvector that lives as long as the tests."""
    pgserver = pytest.importorskip("pgserver", reason="needs pgserver, a PostgreSQL in a wheel")
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    folder = tempfile.mkdtemp(prefix="pg")  # its socket's path must be short
    try:
        server = pgserver.get_server(folder, cleanup_mode="stop")
    except Exception as error:
        shutil.rmtree(folder)
        pytest.skip(f"PostgreSQL does not start here: {error}")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "lance", "postgres"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one empty store of each kind, as often as it is asked."""
    opened: list[Store] = []
    create, open_again = _kind(request, tmp_path / "index")

    def once_more() -> Store:
        opened.append(open_again() if opened else create())
        return opened[-1]

    yield once_more
    for store in opened:
        store.close()


def _kind(
    request: pytest.FixtureRequest, folder: Path
) -> tuple[Callable[[], Store], Callable[[], Store]]:
    """How a store of the asked kind is made and opened; skips where what it needs is missing."""
    kind: Any = SqliteStore
    where: Any = folder
    if request.param == "lance":
        pytest.importorskip("lancedb", reason="needs the extra lance")
        from fledge.index.store.lance.store import LanceStore as kind
    elif request.param == "postgres":
        where = f"{request.getfixturevalue('postgres')}#t_{uuid4().hex}"
        from fledge.index.store.postgres.store import PostgresStore as kind
    return lambda: kind.create(where, SETTINGS), lambda: kind(where)


@pytest.fixture
def store(opener: Opener) -> Store:
    """An empty store of each kind."""
    return opener()
