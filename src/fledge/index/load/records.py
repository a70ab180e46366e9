"""JSON records to documents: a record a document, or one document that says all its keys.

A record's id is its own (``id`` and the like) when it has one, else its number in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fledge.core.errors import InputError
from fledge.data.dates import iso_date
from fledge.data.rows import DATE_KEYS, TEXT_KEYS, TITLE_KEYS, URL_KEYS, row_record
from fledge.index.load.blob import Blob, Budget, Refused, too_large
from fledge.index.load.page import page_text
from fledge.index.load.pen import Pen, Written, finish, one_line, settle
from fledge.index.load.plain import text_of
from fledge.index.load.source import shown
from fledge.index.loaded import Loaded, Unreadable

ID_KEYS = ("id", "_id", "uuid", "key", "slug", "url")
_SHORT = 300
"""Longest string that is kept as metadata."""


def read_jsonl(blob: Blob, budget: Budget) -> Iterator[Loaded | Unreadable]:
    """A document a line; a line that is no JSON is reported, the others are read."""
    names = _Names()
    limit = budget.config.limits.file_bytes
    with blob.open() as stream:
        number = 0
        while line := stream.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise too_large(f"line {number} has more bytes", "file_bytes", limit)
            if not line.strip():
                continue
            budget.take_member("records")
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                last = not line.endswith(b"\n")
                yield Unreadable(
                    path=f"{blob.path}#{number}",
                    reason="truncated" if last else "json",
                    evidence=str(error)[:200],
                )
                continue
            yield read_record(row, blob, names.of(row, number), budget)


def read_json(blob: Blob, budget: Budget) -> Iterator[Loaded | Unreadable]:
    """An array of records with text: a document each.  Any other value: one document."""
    text = text_of(blob, budget)
    try:
        root = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("json", str(error)[:200]) from None
    keys = budget.config.text_keys
    if isinstance(root, list) and root and all(_has_text(row, bool(keys)) for row in root):
        names = _Names()
        for number, row in enumerate(root, 1):
            budget.take_member("records")
            yield read_record(row, blob, names.of(row, number), budget)
    elif isinstance(root, Mapping) and _has_text(root, bool(keys)):
        yield _whole(blob, *_written(root, blob.path, budget))
    else:
        yield finish(blob, _listed(root, budget), "json")


def read_parquet(blob: Blob, budget: Budget) -> Iterator[Loaded | Unreadable]:
    """A document a row: also what ``fledge corpus build`` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _Names()
    number = 0
    with blob.open() as stream:
        try:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    budget.take_member("rows")
                    yield read_record(row, blob, names.of(row, number), budget)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise Refused("damaged", " ".join(str(error).split())[:200]) from None


class _Names:
    """Names of records; one that comes again is numbered."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, row: Any, number: int) -> str:
        name = str(number)
        if isinstance(row, Mapping):
            values = (row.get(key) for key in ID_KEYS)
            own = (str(v) for v in values if isinstance(v, str | int) and not isinstance(v, bool))
            name = next((one_line(value)[:200] for value in own if value.strip()), name)
        again = self._seen[name] = self._seen.get(name, 0) + 1
        return name if again == 1 else f"{name}~{again}"


def read_record(row: Any, blob: Blob, name: str, budget: Budget) -> Loaded | Unreadable:
    """The document of a record that is called ``name`` within its blob."""
    path = f"{blob.path}#{name}"
    try:
        written, url = _written(row, path, budget)
        inner = blob.member(f"#{name}", name, b"")
        return _whole(inner, written, url)
    except Refused as refused:
        return Unreadable(path=path, reason=refused.reason, evidence=refused.evidence)


def _whole(blob: Blob, written: Written, url: str) -> Loaded:
    """The document of a record; people know it by its URL when it has one."""
    if url.startswith(("http://", "https://")):
        blob = replace(blob, path=shown(url), url=shown(url))
    return finish(blob, written, "json")


def _has_text(row: Any, keys: bool) -> bool:
    if isinstance(row, str):
        return True
    return isinstance(row, Mapping) and (
        keys or any(isinstance(row.get(key), str) and row[key] for key in TEXT_KEYS)
    )


def _written(row: Any, path: str, budget: Budget) -> tuple[Written, str]:
    """(document of a record, its URL)"""
    keys = budget.config.text_keys
    if not _has_text(row, bool(keys)):
        written = _listed(row, budget)
        return written, ""
    try:
        record = row_record(row, path, keys)
    except InputError as error:
        raise Refused("no_text", error.message[:200]) from None
    except RecursionError:
        raise Refused("json", "nested too deep") from None
    content = str(record.content)
    limit = budget.config.limits.characters
    if len(content) > limit:
        raise too_large(f"{len(content):,} characters are more", "characters", limit)
    metadata = _metadata(row) if isinstance(row, Mapping) else {}
    if record.kind == "html":
        page = page_text(content)
        text, kind, title = page.text, page.kind, record.title or page.title
        date = iso_date(record.date) or page.date
    else:
        text, kind, title = settle(content).strip(), "plain", record.title
        date = iso_date(record.date)
    title = title or str(metadata.pop("title", ""))
    return Written(text=text, kind=kind, title=title, date=date, metadata=metadata), record.url


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """Short values of a record that filters may ask for; JSON in ``metadata`` is opened."""
    taken = {*TEXT_KEYS, *TITLE_KEYS[:1], *DATE_KEYS[:1], *URL_KEYS[:1], "format", "date_from"}
    inner: Any = row.get("metadata")
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            inner = None
    found: dict[str, Any] = {}
    for source in (inner if isinstance(inner, Mapping) else {}, row):
        for key, value in source.items():
            if source is row and (key in taken or key == "metadata"):
                continue
            kept = _plain(value)
            if kept is not None:
                found[settle(str(key))] = kept
    return found


def _plain(value: Any) -> Any:
    """A short JSON value without surrogates, or None."""
    if isinstance(value, str):
        return settle(value) if 0 < len(value) <= _SHORT else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, list) and 0 < len(value) <= 50:
        items = [_plain(item) for item in value if isinstance(item, str | int | float)]
        return items if len(items) == len(value) and None not in items else None
    return None


def _listed(root: Any, budget: Budget) -> Written:
    """A document of lines ``key.key: value``; each top-level key or item is a place."""
    pen = Pen(budget.config.limits.characters)
    if isinstance(root, Mapping):
        parts = [(str(key), str(key), value) for key, value in root.items()]
    elif isinstance(root, list):
        parts = [(f"item {number}", "", value) for number, value in enumerate(root, 1)]
    else:
        parts = [("value", "", root)]
    for label, prefix, value in parts:
        start = pen.next_start("\n")
        for line in _lines(value, prefix):
            pen.block(line, gap="\n")
        pen.place(start, one_line(label)[:100])
    return pen.written("rows", title="")


def _lines(value: Any, prefix: str) -> Iterator[str]:
    """``prefix.key: value`` for each value below ``value`` that is no container; no recursion."""
    stack = [(prefix, value)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping):
            inner = [(f"{name}.{key}" if name else str(key), item) for key, item in value.items()]
            stack.extend(reversed(inner))
        elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
            stack.extend((f"{name}[{i}]", value[i]) for i in reversed(range(len(value))))
        else:
            items = value if isinstance(value, list) else [value]
            text = ", ".join(_said(item) for item in items if item is not None)
            if text:
                yield settle(f"{name}: {text}" if name else text)


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
