"""Rows of a SQL query to sources; the database is only read.

    sqlite:///notes.db?query=SELECT * FROM notes&id=id&text=title,body
    postgresql://user@host/db?query=…&id=…&text=…&title=…&date=…

``sqlite:///`` is followed by a path, so an absolute one makes four slashes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import value_digest
from fledge.index.load.config import Limits
from fledge.index.load.rows import RowSources
from fledge.index.load.source import Source, quoted
from fledge.index.loaded import Unreadable

KEYS = ("query", "id", "text", "title", "date", "url", "name")
_ALLOWED = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)
_LOOK_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the clock."""


def fetch_rows(url: str, limits: Limits) -> Iterator[Source | Unreadable]:
    """A source for each row of the query in ``url``.  Raises InputError for a wrong one."""
    parts = urlsplit(url)
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    shown_url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    if parts.netloc == "":  # urlunsplit drops the empty host
        shown_url = f"{parts.scheme}://{parts.path}"
    for key in ("query", "id"):
        if not asked.get(key):
            raise InputError(
                f"{shown_url}: {key!r} is missing",
                remedy="write sqlite:///FILE?query=SELECT …&id=COLUMN&text=COLUMN,COLUMN",
            )
    columns = {key: asked[key].split(",") for key in KEYS[1:6] if asked.get(key)}
    name = asked.get("name") or f"{Path(parts.path).name}~{value_digest(asked['query'])[:8]}"
    rows = RowSources(f"{parts.scheme}:{quoted(name)}", shown_url, columns)
    ask = _sqlite if parts.scheme == "sqlite" else _postgres
    for number, row in enumerate(ask(url, asked["query"], limits), 1):
        if number == 1:
            _check(columns, row, shown_url)
        yield rows.source(row, number)


def _check(columns: Mapping[str, list[str]], row: Mapping[str, Any], url: str) -> None:
    for key, names in columns.items():
        for name in names:
            if name.partition(".")[0].removesuffix("[]") not in row:
                raise InputError(
                    f"{url}: {key}={name}: the query gives no such column",
                    remedy=f"it gives {', '.join(row)}",
                )


def _sqlite(url: str, query: str, limits: Limits) -> Iterator[dict[str, Any]]:
    path = Path(unquote(urlsplit(url).path).removeprefix("/")).expanduser()
    if not path.is_file():
        raise InputError(
            f"{path} is no database file", remedy="sqlite:///relative.db or sqlite:////absolute.db"
        )
    deadline = time.monotonic() + limits.download_seconds
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        database.set_authorizer(lambda action, *_: int(action not in _ALLOWED))
        database.set_progress_handler(lambda: int(time.monotonic() > deadline), _LOOK_STEPS)
        database.row_factory = sqlite3.Row
        database.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            for row in database.execute(query):
                yield {key: row[key] for key in row.keys()}  # noqa: SIM118  (a Row, no dict)
        except sqlite3.Error as error:
            if "interrupted" in str(error):
                raise FledgeError(
                    f"{path}: the query takes longer than {limits.download_seconds:g} s",
                    remedy="raise limits.download_seconds or ask for less",
                ) from None
            raise InputError(f"{path}: {error}", remedy="mend the query") from None


def _postgres(url: str, query: str, limits: Limits) -> Iterator[dict[str, Any]]:
    try:
        import psycopg
        from psycopg.rows import dict_row
    except ImportError:
        raise InputError(
            "reading PostgreSQL needs psycopg", remedy="pip install 'fledge[postgres]'"
        ) from None
    parts = urlsplit(url)
    rest = {key: values[-1] for key, values in parse_qs(parts.query).items() if key not in KEYS}
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(rest), ""))
    timeout = f"-c statement_timeout={int(limits.download_seconds * 1000)}"
    try:
        with psycopg.connect(bare, options=timeout, row_factory=dict_row) as connection:
            connection.read_only = True
            with connection.cursor(name="fledge") as cursor:
                cursor.execute(query.encode())
                yield from cursor
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise InputError(f"{parts.hostname}: {said}", remedy="mend the URL or the query") from None
