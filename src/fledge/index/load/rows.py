"""Rows of a table or an API to sources: each row a source of its own, so that a change of one row
is a change of one document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from fledge.data.rows import select
from fledge.index.load.pen import one_line
from fledge.index.load.source import Source, quoted, shown
from fledge.index.loaded import Unreadable


class RowSources:
    """Makes the sources of rows that belong together; ``root`` begins their ids."""

    def __init__(self, root: str, path: str, columns: Mapping[str, Sequence[str]]) -> None:
        """``columns``: for "id", "text", "title", "date" and "url" the dotted keys that hold it.

        Without "text" the document says all keys.
        """
        self._root, self._path = root, path
        self._columns = columns
        self._seen: set[str] = set()

    def source(self, row: Mapping[str, Any], number: int) -> Source | Unreadable:
        """The source of a row, or why it has none."""
        name = one_line(", ".join(self._values(row, "id")))[:300]
        path = shown(f"{self._path}, {name or f'row {number}'}")
        if not name:
            key = ", ".join(self._columns["id"])
            return Unreadable(path=path, reason="no_id", evidence=f"{key} is empty or missing")
        if name in self._seen:
            return Unreadable(path=path, reason="same_id", evidence="an earlier row has this id")
        self._seen.add(name)
        content = json.dumps(self._record(row), ensure_ascii=True, sort_keys=True)
        return Source(
            id=f"{self._root}/{quoted(name)}",
            path=path,
            name="row.json",
            kind="row",
            content=content.encode("ascii"),
        )

    def _record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row as JSON whose text, title, date and URL stand under these names."""
        plain = {str(key): _plain(value) for key, value in row.items()}
        if not self._columns.get("text"):
            return plain
        chosen = {key.partition(".")[0].removesuffix("[]") for key in self._columns["text"]}
        record = {key: value for key, value in plain.items() if key not in chosen}
        record["text"] = "\n\n".join(self._values(row, "text"))
        for name in ("title", "date", "url"):
            if found := self._values(row, name):
                record[name] = found[0]
        return record

    def _values(self, row: Mapping[str, Any], name: str) -> list[str]:
        values = []
        for key in self._columns.get(name, ()):
            if isinstance(row.get(key), str | int | float | datetime | date | Decimal):
                values.append(str(_plain(row[key])))
            else:
                values += select(row, key)
        return [value for value in values if value.strip()]


def _plain(value: Any) -> Any:
    """A value of a database as JSON has it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return None
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
