"""The Lance store with enough vectors for an index: what it finds, and what comes after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fledge.core.types import Document
from fledge.index.chunk import Chunk
from fledge.index.store.protocol import Entry
from fledge.index.store.where import parse_filter

pytest.importorskip("lancedb", reason="needs the extra lance")
from fledge.index.store.lance import store as lance


def test_indexed_vectors_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "INDEX_FROM", 2000)
    drawn = np.random.default_rng(0)
    centres = drawn.standard_normal((60, 32))
    vectors = centres[drawn.integers(60, size=3000)] + 0.5 * drawn.standard_normal((3000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    store = lance.LanceStore.create(tmp_path, {})
    store.commit([document(at, vectors[at : at + 50]) for at in range(0, 2500, 50)])
    with store.snapshot() as snapshot:
        assert snapshot.sizes().dead == 2500
    store.compact()
    with store.snapshot() as snapshot:
        assert snapshot.sizes().dead == 0
    store.commit([document(at, vectors[at : at + 50]) for at in range(2500, 3000, 50)])
    right = 0
    with store.snapshot() as snapshot:
        assert 500 <= snapshot.sizes().dead < 600  # rows of documents are counted with them
        for query in vectors[::60]:
            hits = snapshot.nearest(query, 10)
            found = {int(seen.text) for seen in snapshot.chunks([hit.chunk for hit in hits])}
            right += len(found & set(np.argsort(-(vectors @ query))[:10].tolist()))
            assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert right >= 0.95 * 10 * 50
        late = snapshot.nearest(vectors[0], 5, parse_filter("meta.first >= 2500"))
        assert all(int(seen.text) >= 2500 for seen in snapshot.chunks([h.chunk for h in late]))
        assert len(late) == 5
    store.compact()
    with store.snapshot() as snapshot:
        assert snapshot.sizes().dead == 0
    assert store.verify() == []
    store.close()


def document(first: int, vectors: np.ndarray) -> Entry:
    """A document whose chunks are the numbers of its vectors."""
    numbers = [f"{first + at:06}" for at in range(len(vectors))]
    return Entry(
        document=Document(id=f"d{first}", text="".join(numbers), metadata={"first": first}),
        path=f"d{first}",
        kind="plain",
        fingerprint="",
        chunks=tuple(Chunk(start=6 * at, end=6 * at + 6) for at in range(len(vectors))),
        terms=tuple((number,) for number in numbers),
        vectors=vectors,
    )
