"""A file of rows in; each value with its line out.

JSONL or one JSON array, plain, gzip or Zstandard.  A line that is not JSON is a row, too, with its
fault: so that a checker can name every such line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fledge.core.errors import InputError
from fledge.data.streams import Plain

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: ``origin`` names its file and line, ``fault`` says why it has no value."""

    origin: str
    value: Any = None
    fault: str = ""


def read_rows(path: Path, what: str) -> Iterator[Row]:
    """The rows of a file of ``what``; raises InputError when it cannot be read as a whole."""
    found = False
    try:
        with path.open("rb") as raw:
            plain = Plain(raw)
            for row in _rows(plain, path):
                found = True
                yield row
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{what} {path} is not a file", remedy="name a JSONL file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", remedy="re-encode the file") from None
    if plain.truncated or plain.damaged:
        why = plain.damaged or "it ends too early"
        raise InputError(f"{path} cannot be unpacked: {why}", remedy="fetch the file again")
    if not found:
        raise InputError(f"{path} holds no {what}", remedy="name another file")


def read_parsed(path: Path, what: str, parse: Callable[[Any, str], Iterable[T]]) -> Iterator[T]:
    """What ``parse(value, origin)`` makes of each row; its ValueError becomes an InputError."""
    for row in read_rows(path, what):
        if row.fault:
            raise InputError(f"{row.origin}: {row.fault}", remedy="mend that line")
        try:
            yield from parse(row.value, row.origin)
        except ValueError as error:
            raise InputError(f"{row.origin}: {error}", remedy="mend that line") from None


def _rows(plain: Plain, path: Path) -> Iterator[Row]:
    lines = (line.decode("utf-8-sig" if n == 1 else "utf-8") for n, line in _numbered(plain))
    first, number = "", 0
    for number, first in enumerate(lines, 1):  # noqa: B007  (what stands at the break is used)
        if first.strip():
            break
    if first.lstrip().startswith("["):
        yield from _items(first + "".join(lines), path, number)
    elif first.strip():
        yield from _lines(iter([first]), path, number - 1)
        yield from _lines(lines, path, number)


def _numbered(plain: Plain) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := plain.stream.readline():
        number += 1
        yield number, line


def _lines(lines: Iterator[str], path: Path, before: int) -> Iterator[Row]:
    for number, line in enumerate(lines, before + 1):
        if line.strip():
            yield _row(line, f"{path}:{number}")


def _row(line: str, origin: str) -> Row:
    try:
        return Row(origin=origin, value=json.loads(line))
    except (ValueError, RecursionError) as error:
        return Row(origin=origin, fault=f"not JSON: {getattr(error, 'msg', error)}")


def _items(text: str, path: Path, before: int) -> Iterator[Row]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = before + getattr(error, "lineno", 1) - 1
        why = getattr(error, "msg", error)
        yield Row(origin=f"{path}:{line}", fault=f"not JSON: {why}")
        return
    for number, value in enumerate(values, 1):
        yield Row(origin=f"{path}, item {number}", value=value)
