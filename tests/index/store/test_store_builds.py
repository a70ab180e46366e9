"""Builds into the other kinds of store: the folder says where the index is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fledge.core.errors import InputError
from fledge.index.config import IndexConfig
from fledge.index.folder import build_index, recorded_config
from fledge.index.store.opening import open_store

sys.path.append(str(Path(__file__).parents[1]))
from build_samples import CountingEmbedder, write_files


@pytest.fixture(params=["lance", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "postgres":
        return f"{request.getfixturevalue('postgres')}#b_{uuid4().hex}"
    pytest.importorskip("lancedb", reason="needs the extra lance")
    return str(request.param)


def test_a_build_into_another_store(tmp_path: Path, kind: str, monkeypatch: Any) -> None:
    files, out = write_files(tmp_path / "files"), tmp_path / "index"
    config = IndexConfig(input=[str(files)], embedder="counting", store=kind)
    assert build_index(config, out, CountingEmbedder()).new == 5
    assert recorded_config(out) == config
    (files / "b.txt").unlink()
    (files / "a.md").write_text("# Piers\n\nPiers stand in the river.\n")
    report = build_index(recorded_config(out), out, CountingEmbedder())
    assert (report.changed, report.removed, report.unchanged) == (1, 1, 3)
    store = open_store(out)
    assert store.verify() == []
    with store.snapshot() as snapshot:
        assert snapshot.sizes().documents == 4
        (hit,) = snapshot.matching(["pier"], 1)
        found = snapshot.chunks([hit.chunk])[0]
        document = snapshot.document(found.document)
        assert document is not None
        assert found.span.quote(document) == found.text
    store.close()
    if kind != "lance":
        with pytest.raises(InputError, match="of another folder"):
            build_index(config, tmp_path / "other", CountingEmbedder())
        assert not (tmp_path / "other").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    files = write_files(tmp_path / "files")
    for package, kind in (("lancedb", "lance"), ("psycopg", "postgresql://host/db")):
        monkeypatch.setitem(sys.modules, package, None)
        config = IndexConfig(input=[str(files)], embedder="counting", store=kind)
        with pytest.raises(InputError, match=r"pip install 'fledge\[(lance|postgres)\]'"):
            build_index(config, tmp_path / "index", CountingEmbedder())
