"""Any sequence of commits, compactions and reopenings against a dict."""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from store_samples import WORDS, Model, drawn_text, entry, scored, vector_of

from fledge.index.store.protocol import Snapshot
from fledge.index.store.sqlite.store import SqliteStore

IDS = st.sampled_from([f"d{at}" for at in range(6)])


class StoreMachine(RuleBasedStateMachine):
    """Upserts, deletes, compactions, reopenings; old snapshots stay what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "index"
        self.folder = folder
        self.store = SqliteStore.create(folder, {})
        self.model = Model()
        self.old: list[tuple[Snapshot, Model]] = []

    @rule(
        ids=st.lists(IDS, max_size=4, unique=True),
        deleted=st.lists(IDS, max_size=3, unique=True),
        seed=st.integers(0, 2**32),
        vectors=st.booleans(),
    )
    def commit(self, ids: list[str], deleted: list[str], seed: int, vectors: bool) -> None:
        drawn = random.Random(seed)
        upserts = [
            entry(id, drawn_text(drawn, drawn.randrange(0, 25)), vectors=vectors) for id in ids
        ]
        gone = [id for id in deleted if id not in ids]
        self.store.commit(upserts, gone)
        self.model.commit(upserts, gone)

    @rule()
    def fail(self) -> None:
        good = entry("d0", "must not be seen")
        bad = type(good)(**{**vars(good), "terms": ()})
        with pytest.raises(ValueError, match="terms"):
            self.store.commit([entry("d1", "must not be seen"), bad])

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store = SqliteStore(self.folder)

    @rule()
    def hold(self) -> None:
        kept = Model()
        kept.commit(list(self.model.entries.values()), [])
        self.old.append((self.stack.enter_context(self.store.snapshot()), kept))
        self.old = self.old[-2:]

    @invariant()
    def says_what_the_model_says(self) -> None:
        with self.store.snapshot() as snapshot:
            compare(snapshot, self.model)
        for snapshot, model in self.old:
            compare(snapshot, model)

    def teardown(self) -> None:
        assert self.store.verify() == []
        self.stack.close()
        self.store.close()


def compare(snapshot: Snapshot, model: Model) -> None:
    """Everything a snapshot says against the model."""
    assert [known.id for known in snapshot.known()] == sorted(model.entries)
    sizes: Any = snapshot.sizes()
    assert sizes.chunks == len(model.searched())
    query = vector_of("q")
    found = scored(snapshot, snapshot.nearest(query, 1000))
    assert found == pytest.approx(model.nearest(query), abs=1e-5)
    for terms in ([WORDS[0], WORDS[4]], [WORDS[7]]):
        matches = scored(snapshot, snapshot.matching(terms, 1000))
        assert matches == pytest.approx(model.matching(terms), rel=1e-4)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
