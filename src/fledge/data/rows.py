"""JSON and Parquet rows to raw records: which keys hold the text, the title, the name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fledge.core.errors import InputError
from fledge.data.records import Kind, RawRecord

TEXT_KEYS = ("text", "content", "paragraphs", "body", "html", "xhtml")
"""Keys that hold the text, tried in this order."""

WORK_KEYS = ("work", "id", "path", "file", "_file")
URL_KEYS = ("url", "link")
TITLE_KEYS = ("title", "name", "rhythmic", "headline")
DATE_KEYS = ("date", "published", "published_date", "created")

LEAF_CHARACTERS = 8
"""Shortest string that counts as text when a nested record has no known key."""

_MARKUP = re.compile(r"\s*(?:<\?xml|<!doctype html|<html)", re.IGNORECASE)


def row_record(row: Any, source: str, keys: Sequence[str]) -> RawRecord:
    """The raw record of one row; raises InputError naming the keys when none holds text."""
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, Mapping):
        raise InputError(
            f"{source}: a {type(row).__name__} is not a record", remedy="write one object a line"
        )
    text = _selected(row, source, keys) if keys else _found(row, source)
    kind: Kind = "html" if _MARKUP.match(text) else "text"
    return RawRecord(
        source=source,
        content=text,
        kind=kind,
        url=_first(row, URL_KEYS),
        title=_first(row, TITLE_KEYS),
        date=_first(row, DATE_KEYS),
        work=_first(row, WORK_KEYS),
    )


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    for key in keys:
        value = row.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return str(value)
    return ""


def _selected(row: Mapping[str, Any], source: str, keys: Sequence[str]) -> str:
    parts = [part for key in keys for part in select(row, key)]
    if not parts and not any(_has(row, key) for key in keys):
        raise InputError(
            f"{source}: none of jsonl_text = {list(keys)} is in the record, which has "
            f"{', '.join(map(repr, row))}",
            remedy="name the key that holds the text in jsonl_text",
        )
    return "\n".join(parts)


def _has(row: Mapping[str, Any], key: str) -> bool:
    return key.split(".")[0].removesuffix("[]") in row


def _found(row: Mapping[str, Any], source: str) -> str:
    for key in TEXT_KEYS:
        value = row.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return "\n".join(value)
    leaves = list(long_strings(row))
    if not leaves:
        raise InputError(
            f"{source}: no text in a record with the keys {', '.join(map(repr, row)) or '(none)'}",
            remedy="name the key that holds the text in jsonl_text",
        )
    return "\n".join(leaves)


def select(value: Any, path: str) -> Iterator[str]:
    """Strings at a dotted path: ``doc.articles[].text``; ``[]`` walks a list.

    >>> list(select({"a": [{"b": "x"}, {"b": "y"}]}, "a[].b"))
    ['x', 'y']
    """
    if not path:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))
        return
    key, _, rest = path.partition(".")
    if not isinstance(value, Mapping):
        return
    found = value.get(key.removesuffix("[]"))
    if found is None:
        return
    if not key.endswith("[]"):
        yield from select(found, rest)
    elif isinstance(found, list):
        for item in found:
            yield from select(item, rest)


def long_strings(value: Any) -> Iterator[str]:
    """All strings below ``value`` of at least ``LEAF_CHARACTERS``, in order, addresses left out."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) >= LEAF_CHARACTERS and not re.fullmatch(r"https?://\S+|\S+\.\w{2,5}", text):
            yield text
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from long_strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from long_strings(item)
