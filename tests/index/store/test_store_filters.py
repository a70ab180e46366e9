"""Filters in every store accept what their meaning in Python accepts, hostile texts included."""

from __future__ import annotations

from typing import Any as Anything

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import entry

from fledge.index.store.filters import All, Any, Compare, Filter, Not, accepts, fields_of
from fledge.index.store.protocol import Store

TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "A", "b*", "*", "?", "[a]", "a'b", "%", "_", "\x00", "a\x00b", "\ud800"]
    ),
    st.sampled_from(
        ["' OR 1=1 --", '"; DROP TABLE documents; --', "橋", "\U0001f309", "1", "true"]
    ),
    st.text(st.characters(codec=None), max_size=4),
)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63, 2**64, 0.5, -0.0, 1e300, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
KEYS = st.sampled_from(["a", "b.c", "x'y", 'q"', "\ud800", "", "$.a", "a\x00"])
METADATA = st.dictionaries(
    KEYS,
    st.one_of(
        SCALARS,
        st.none(),
        st.lists(SCALARS, max_size=3),
        st.dictionaries(KEYS, SCALARS, max_size=2),
        st.just(float("inf")),
    ),
    max_size=4,
)
FIELDS = st.one_of(
    KEYS.map("meta.{}".format),
    KEYS.map("meta.b.{}".format),
    st.sampled_from(["id", "path", "lang", "date", "source", "kind", "url"]),
)
ORDERED = st.builds(
    Compare,
    field=FIELDS,
    op=st.sampled_from(["<", "<=", ">", ">="]),
    value=st.one_of(TEXTS, NUMBERS),
)
COMPARISONS = st.one_of(
    ORDERED,
    st.builds(Compare, field=FIELDS, op=st.sampled_from(["=", "!="]), value=SCALARS),
    st.builds(
        Compare, field=FIELDS, op=st.just("in"), value=st.lists(SCALARS, max_size=4).map(tuple)
    ),
    st.builds(Compare, field=FIELDS, op=st.just("like"), value=TEXTS),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=3).map(lambda found: All(tuple(found))),
        st.lists(inner, max_size=3).map(lambda found: Any(tuple(found))),
    ),
    max_leaves=6,
)
DOCUMENTS = st.lists(
    st.fixed_dictionaries(
        {"lang": TEXTS, "date": TEXTS, "source": TEXTS, "path": TEXTS, "metadata": METADATA}
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(documents=DOCUMENTS, filters=st.lists(FILTERS, min_size=1, max_size=5))
def test_a_filter_means_the_same_everywhere(
    store: Store, documents: list[dict[str, Anything]], filters: list[Filter]
) -> None:
    entries = [entry(f"d{at}", "bridge", **given) for at, given in enumerate(documents)]
    with store.snapshot() as snapshot:
        old = [known.id for known in snapshot.known() if int(known.id[1:]) >= len(entries)]
    store.commit(entries, old)
    with store.snapshot() as snapshot:
        for where in filters:
            wanted = [
                each.document.id
                for each in entries
                if accepts(where, fields_of(each.document, each.path, each.kind))
            ]
            hits = snapshot.matching(["bridge"], 100, where)
            found = [seen.document for seen in snapshot.chunks([hit.chunk for hit in hits])]
            assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("op", ["=", "!=", "in", "like"])
def test_what_sql_would_misread_is_text(store: Store, op: str) -> None:
    store.commit([entry("a", "bridge", lang="x' OR '1'='1"), entry("b", "bridge", lang="y")])
    value = "x' OR '1'='1"
    where = Compare(field="lang", op=op, value=(value,) if op == "in" else value)  # type: ignore[arg-type]
    with store.snapshot() as snapshot:
        hits = snapshot.matching(["bridge"], 10, where)
        found = [seen.document for seen in snapshot.chunks([hit.chunk for hit in hits])]
        assert found == (["b"] if op == "!=" else ["a"])
