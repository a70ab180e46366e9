"""Filters as text: what they mean, and what their errors say."""

from __future__ import annotations

import time

import pytest

from fledge.core.errors import InputError
from fledge.core.types import Document
from fledge.index.store.filters import (
    All,
    Any,
    Compare,
    Filter,
    Not,
    accepts,
    checked,
    fields_of,
    like,
)
from fledge.index.store.where import parse_filter

PAGE = Document(
    id="a",
    text="x",
    lang="zh",
    date="2021-03-04",
    metadata={
        "year": 1999,
        "tags": ["bridge", "steel"],
        "author": {"name": "O'Neil"},
        "draft": False,
        "odd key": 1.5,
        "none": None,
    },
)


def held(text: str) -> bool:
    return accepts(parse_filter(text), fields_of(PAGE, "docs/A [1].md", "markdown"))


@pytest.mark.parametrize(
    "text",
    [
        "lang = zh and date >= 2020 and meta.year in (1999, 2000)",
        "lang=zh",
        "date < 2022",
        "meta.tags = steel and meta.tags = bridge",
        "meta.author.name = 'O''Neil'",
        'meta.author.name = "O\'Neil"',
        "meta.draft = false",
        "meta.draft != true",
        "meta.year > 1998.5",
        '"meta.odd key" = 1.5',
        "path like 'docs/A [1]*'",
        "path like docs/?*.md",
        "meta.year not in (1, 2)",
        "path not like drafts/*",
        "not (lang = en or meta.year = 2000)",
        "meta.nothing != 3",
        "lang = en or lang = zh and meta.year = 1999",
        "NOT lang = en AND kind = markdown",
    ],
)
def test_accepts(text: str) -> None:
    assert held(text)


@pytest.mark.parametrize(
    "text",
    [
        "meta.year = '1999'",  # a text is no number
        "meta.draft = 0",
        "meta.nothing = 3",
        "meta.nothing < 3",
        "meta.none = 0",
        "lang = ''",
        "path like docs/A",
        "(lang = en or lang = zh) and meta.year = 2000",
    ],
)
def test_refuses(text: str) -> None:
    assert not held(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a field, found the end"),
        ("lang", "character 5: expected = !="),
        ("lang =", "character 7: expected a value, found the end"),
        ("langg = zh", "no such field (did you mean 'lang'?)"),
        ("year = 3", "did you mean 'meta.year'?"),
        ("lang = zh meta.a = 1", "expected 'and', 'or' or the end, found 'meta.a'"),
        ("meta.a in 3", "expected '(' and values"),
        ("meta.a in (3", "expected ',' or ')'"),
        ("(lang = zh", "expected ')'"),
        ("lang = 'zh", "cannot read"),
        ("lang ! zh", "cannot read"),
        ("meta.a < true", "no order"),
        ("meta.a = 1e999", "finite"),
        ("meta.a = " + "9" * 5000, "finite"),
        ("(" * 60 + "lang = zh", "nested deeper"),
        ("not " * 60 + "lang = zh", "nested deeper"),
    ],
)
def test_errors_name_the_place(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    assert says in str(caught.value)


def test_the_tree_is_as_written() -> None:
    assert parse_filter("lang = a or not date < 1 and meta.x like b*") == Any(
        (
            Compare(field="lang", op="=", value="a"),
            All(
                (
                    Not(Compare(field="date", op="<", value="1")),
                    Compare(field="meta.x", op="like", value="b*"),
                )
            ),
        )
    )


def test_trees_from_elsewhere_are_checked() -> None:
    deep: Filter = Compare(field="lang", op="=", value="a")
    for _ in range(3000):
        deep = Not(deep)
    for bad in (
        deep,
        Compare(field="rowid", op="=", value=1),
        Compare(field="lang", op="=", value=("a",)),
        Compare(field="lang", op="in", value="a"),
        Compare(field="meta.a", op="=", value=float("nan")),
        Compare(field="meta.a", op="in", value=tuple(range(20_000))),
    ):
        with pytest.raises(InputError):
            checked(bad)


def test_globs_take_every_character_as_itself_and_little_time() -> None:
    assert like("a[b]?.*", "a[b]c.\nd")
    assert like("*", "")
    assert like("**", "ab")
    assert not like("?", "")
    assert like("*a*b", "xaybzb")
    assert not like("*a*b", "xbya")
    start = time.process_time()
    assert not like("*a" * 40 + "b", "a" * 5000)
    assert time.process_time() - start < 1
