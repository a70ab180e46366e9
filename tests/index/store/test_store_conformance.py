"""What every store must do, whatever it is made of."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from store_samples import (
    DIMENSIONS,
    SETTINGS,
    WORDS,
    Model,
    Opener,
    drawn_text,
    entry,
    scored,
    vector_of,
)

from fledge.core.errors import InputError
from fledge.index.loaded import Place
from fledge.index.store.filters import Compare
from fledge.index.store.protocol import Entry, Snapshot, Store
from fledge.index.store.where import parse_filter

TEXT = "bridge steel river arch 香港 bridge bridge 橋 c++ o'neil %_* 近 steel"


def filled(store: Store, count: int = 40, seed: int = 0) -> Model:
    """A store and its model with the same documents."""
    drawn, model = random.Random(seed), Model()
    entries = [
        entry(
            f"d{at}",
            drawn_text(drawn),
            lang=drawn.choice(["en", "zh"]),
            metadata={"year": 1990 + at, "tags": drawn.sample(WORDS, 2)},
        )
        for at in range(count)
    ]
    for at in range(0, count, 7):
        store.commit(entries[at : at + 7])
        model.commit(entries[at : at + 7], [])
    return model


def check_searches(snapshot: Snapshot, model: Model) -> None:
    """The store's searches against the model's, filtered and not."""
    for where in (None, parse_filter("lang = zh and meta.year > 2000")):
        query = vector_of("bridge steel")
        wanted = model.nearest(query, where)
        found = scored(snapshot, snapshot.nearest(query, 10_000, where))
        assert found.keys() == wanted.keys()
        assert found == pytest.approx(wanted, abs=1e-5)
        for terms in (
            ["bridge"],
            ["香港", "c++", "nowhere"],
            ["o'neil", "%_*", "bridge", "bridge"],
        ):
            matches = scored(snapshot, snapshot.matching(terms, 10_000, where))
            expected = model.matching(terms, where)
            assert matches.keys() == expected.keys()
            if (
                "Lance" not in type(snapshot).__name__
            ):  # its BM25 sees a part of the table at a time
                assert matches == pytest.approx(expected, rel=1e-4)


def test_searches_agree_with_their_definitions(store: Store) -> None:
    model = filled(store)
    with store.snapshot() as snapshot:
        check_searches(snapshot, model)
        query = vector_of("x")
        five = snapshot.nearest(query, 5)
        best = sorted(model.nearest(query).values(), reverse=True)[:5]
        assert [hit.score for hit in five] == pytest.approx(best, abs=1e-5)
        assert snapshot.matching(["bridge"], 3) == snapshot.matching(["bridge"], 10_000)[:3]
        assert snapshot.nearest(query, 0) == []
        assert snapshot.matching([], 5) == []
        everywhere = [terms for each in model.entries.values() for terms in each.terms]
        wanted = [sum(word in terms for terms in everywhere) for word in (*WORDS, "nowhere")]
        assert snapshot.frequencies([*WORDS, "nowhere"]) == wanted


def test_an_empty_store_answers(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.nearest(vector_of("x"), 5) == []
        assert snapshot.matching(["bridge"], 5) == []
        assert list(snapshot.known()) == []
        assert snapshot.document("a") is None
        assert snapshot.chunks([]) == []
        sizes = snapshot.sizes()
        assert (sizes.documents, sizes.chunks, sizes.characters) == (0, 0, 0)
    assert store.verify() == []
    store.compact()
    assert store.settings() == SETTINGS


def test_what_is_read_is_what_was_written(opener: Opener) -> None:
    long = TEXT + "\n" + "長文 " * 50_000
    written = entry(
        "a/../\udcff'\"; DROP TABLE documents; --",
        long,
        size=70_001,
        url="https://example.org/?q='",
        source="s",
        lang="zh-Hant",
        date="2021-01-02",
        kind="code:python",
        path="p\udc80\n.txt",
        metadata={"k": [1, 2.5, True, None, {"x": "y"}], "naïve 'key\"": "\ud800\u0000", "": 2**70},
    )
    opener().commit([written])
    with opener().snapshot() as snapshot:
        document = snapshot.document(written.document.id)
        assert document == written.document
        numbers = snapshot.of_document(written.document.id)
        found = snapshot.chunks(numbers)
        wanted = [chunk for chunk in written.chunks if chunk.level == 0]
        assert [(f.span.start, f.span.end, f.heading) for f in found] == [
            (c.start, c.end, c.heading) for c in wanted
        ]
        assert [f.text for f in found] == [long[c.start : c.end] for c in wanted]
        assert [f.position for f in found] == list(range(len(wanted)))
        assert {f.path for f in found} == {written.path}
        assert found[0].metadata == written.document.metadata
        assert found[0].date == "2021-01-02"
        assert found[2].place == "page 2"
        ups = snapshot.of_document(written.document.id, level=1)
        assert [f.parent for f in found] == [ups[at // 2] for at in range(len(found))]
        assert snapshot.children(ups) == {
            up: numbers[2 * at : 2 * at + 2] for at, up in enumerate(ups)
        }
        assert snapshot.vectors(numbers) == pytest.approx(written.vectors)
        assert not snapshot.vectors(ups).any()
        assert snapshot.places(written.document.id) == list(written.places)
        assert snapshot.boxes(written.document.id, 70_000, 70_002) == list(written.boxes[:2])
        for start, end in ((0, 1), (65_530, 65_540), (0, len(long)), (131_071, 131_073), (5, 5)):
            assert snapshot.text(written.document.id, start, end) == long[start:end]
        (known,) = snapshot.known()
        assert (known.id, known.path, known.fingerprint, known.chunks) == (
            written.document.id,
            written.path,
            written.fingerprint,
            len(wanted),
        )


def test_a_document_is_replaced_and_removed_at_once(store: Store) -> None:
    model = filled(store, 10)
    changed = entry("d3", "arch arch 近 " * 9, lang="zh")
    store.commit([changed], ["d4", "no such document"])
    model.commit([changed], ["d4"])
    with store.snapshot() as snapshot:
        check_searches(snapshot, model)
        assert {known.id for known in snapshot.known()} == model.entries.keys()
        assert snapshot.document("d4") is None
        with pytest.raises(KeyError):
            snapshot.text("d4", 0, 1)
    store.commit([], ["d3", "d5"])
    model.commit([], ["d3", "d5"])
    with store.snapshot() as snapshot:
        check_searches(snapshot, model)
        assert {known.id for known in snapshot.known()} == model.entries.keys()
    assert store.verify() == []


def test_a_snapshot_does_not_change(opener: Opener) -> None:
    store, other = opener(), opener()
    model = filled(store, 12)
    before = Model()
    before.commit(list(model.entries.values()), [])
    with store.snapshot() as old:
        for at in range(12):
            other.commit([entry(f"d{at}", "river " * (at + 2)), entry(f"new{at}", TEXT)])
        other.compact()
        with store.snapshot() as new:
            assert len(list(new.known())) == 24
        check_searches(old, before)
        assert {known.id for known in old.known()} == before.entries.keys()
        assert old.sizes().documents == 12


def test_compaction_changes_no_answer(store: Store) -> None:
    model = filled(store, 30)
    for at in range(0, 30, 2):
        changed = entry(f"d{at}", f"steel 橋 river {at} " * 4, lang="zh", metadata={"year": 2020})
        store.commit([changed], [f"d{at + 1}"] if at % 4 else [])
        model.commit([changed], [f"d{at + 1}"] if at % 4 else [])
    store.compact()
    assert store.verify() == []
    with store.snapshot() as snapshot:
        check_searches(snapshot, model)
        numbers = snapshot.of_document("d0")
        assert snapshot.vectors(numbers) == pytest.approx(model.entries["d0"].vectors)
    again = entry("d0", "近 " * 40)
    store.commit([again])
    model.commit([again], [])
    with store.snapshot() as snapshot:
        check_searches(snapshot, model)
    assert store.verify() == []


def test_documents_without_vectors_or_chunks(store: Store) -> None:
    plain = entry("plain", TEXT, vectors=False)
    store.commit([plain, entry("empty", "")])
    with store.snapshot() as snapshot:
        assert snapshot.nearest(vector_of("x"), 5) == []
        assert snapshot.document("empty") is not None
        assert scored(snapshot, snapshot.matching(["bridge"], 9))
    store.commit([entry("dense", TEXT)])
    with store.snapshot() as snapshot:
        found = scored(snapshot, snapshot.nearest(vector_of("x"), 99))
        assert {key[0] for key in found} == {"dense"}
        assert snapshot.sizes().vectors == len(found)
        assert snapshot.sizes().dimensions == DIMENSIONS
        assert not snapshot.vectors(snapshot.of_document("plain")).any()
    assert store.verify() == []


def test_wrong_entries_are_refused_and_change_nothing(store: Store) -> None:
    good = entry("a", TEXT)
    store.commit([good])
    fields = {**vars(good)}
    short = Entry(**{**fields, "terms": good.terms[:-1]})
    nan = Entry(**{**fields, "vectors": np.full_like(good.vectors, np.nan)})
    outside = Entry(**{**fields, "places": (Place(start=0, end=10**6, label="page 1"),)})
    for bad in (short, nan, outside):
        with pytest.raises(ValueError, match="'a'"):
            store.commit([entry("b", TEXT), bad])
    with pytest.raises(ValueError, match="twice"):
        store.commit([good, good])
    with pytest.raises(ValueError, match="twice"):
        store.commit([good], ["a"])
    wide = Entry(**{**fields, "vectors": np.ones((len(good.terms), 3), np.float32)})
    with pytest.raises(InputError, match="3 dimensions"):
        store.commit([entry("b", TEXT), wide])
    with store.snapshot() as snapshot:
        assert [known.id for known in snapshot.known()] == ["a"]
        with pytest.raises(InputError, match="dimensions"):
            snapshot.nearest(np.ones(3, np.float32), 1)
        with pytest.raises(InputError, match="field there is not"):
            snapshot.nearest(vector_of("x"), 1, Compare(field="1=1; --", op="=", value=1))
        with pytest.raises(KeyError):
            snapshot.chunks([10**6])
    assert store.verify() == []


def test_threads_share_a_store(store: Store) -> None:
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for at in range(5):
                store.commit([entry(f"{name}-{at}", f"bridge {name} {at} " * 5)])
                with store.snapshot() as snapshot:
                    scored(snapshot, snapshot.matching(["bridge"], 50))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with store.snapshot() as snapshot:
        assert len(list(snapshot.known())) == 20
    assert store.verify() == []
