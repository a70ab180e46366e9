"""Every kind of store, made and opened in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_samples import SETTINGS, Opener

from fledge.index.store.protocol import Store
from fledge.index.store.sqlite.store import SqliteStore


@pytest.fixture(params=["sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one empty store of each kind, as often as it is asked."""
    opened: list[Store] = []

    def open_again() -> Store:
        make = SqliteStore.create
        opened.append(
            make(tmp_path / "index", SETTINGS) if not opened else SqliteStore(tmp_path / "index")
        )
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    """An empty store of each kind."""
    return opener()
