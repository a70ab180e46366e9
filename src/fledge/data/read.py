"""Files to raw records, whatever their format and compression."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fledge.core.errors import InputError
from fledge.data.formats import ARCHIVES, PAGES, READ, ROWS, suffix
from fledge.data.records import Kind, RawRecord, ReadNotes
from fledge.data.rows import row_record
from fledge.data.streams import Plain
from fledge.data.warc import read_arc, read_warc


def read_file(
    path: Path, name: str, notes: ReadNotes, *, keys: Sequence[str] = (), limit: int = 20_000_000
) -> Iterator[RawRecord]:
    """The records of one file; their sources start with ``name``.  Notes what went wrong."""
    with path.open("rb") as raw:
        yield from read_stream(raw, name, notes, keys=keys, limit=limit)


def read_stream(
    raw: IO[bytes], name: str, notes: ReadNotes, *, keys: Sequence[str] = (), limit: int
) -> Iterator[RawRecord]:
    """The records of a seekable byte stream whose format its ``name`` tells."""
    kind = suffix(name)
    if kind not in READ:
        notes.skipped.append(name)
        return
    notes.files += 1
    if kind == ".warc":
        yield from read_warc(raw, name, notes, limit)
    elif kind == ".parquet":
        yield from _read_parquet(raw, name, notes, keys)
    else:
        plain = Plain(raw)
        if kind in ARCHIVES:
            yield from _read_tar(plain, name, notes, keys, limit)
        elif kind == ".arc":
            yield from read_arc(plain.stream, name, notes, limit)
        elif kind in ROWS:
            yield from _read_jsonl(plain, name, notes, keys, limit)
        else:
            yield _whole_page(plain, name, PAGES[kind], limit)
        if plain.truncated:
            notes.truncated.append(name)
        if plain.damaged:
            notes.damaged.append(f"{name}: {plain.damaged}")


def _whole_page(plain: Plain, name: str, kind: Kind, limit: int) -> RawRecord:
    content = plain.stream.read(limit + 1)
    problem = "read.too_large" if len(content) > limit else ""
    if (plain.truncated or plain.damaged) and not content.strip():
        problem = "read.truncated"
    return RawRecord(
        source=name, content=content, kind=kind, web=kind == "html", work=name, problem=problem
    )


def _read_jsonl(
    plain: Plain, name: str, notes: ReadNotes, keys: Sequence[str], limit: int
) -> Iterator[RawRecord]:
    number = good = 0
    while line := plain.stream.readline():
        number += 1
        source = f"{name}#{number}"
        if not line.strip():
            continue
        if len(line) > 4 * limit:
            yield RawRecord(source=source, content=b"", kind="text", problem="read.too_large")
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            ended = not line.endswith(b"\n") and not plain.stream.peek(1)  # type: ignore[attr-defined]
            reason = "read.truncated" if ended and plain.truncated else "read.json"
            evidence = {"error": str(error)[:200]}
            yield RawRecord(
                source=source, content=line[:2000], kind="text", problem=reason, metadata=evidence
            )
            continue
        record = _row(row, source, keys, good)
        good += not record.problem
        yield record


def _row(row: Any, source: str, keys: Sequence[str], good: int) -> RawRecord:
    """The record of a row.  A file whose first row has no text is the wrong file or key: that is
    an error; a later row without text is one bad row."""
    try:
        return row_record(row, source, keys)
    except InputError as error:
        if good == 0:
            raise
        problem, seen = "read.no_text", {"error": error.message[:200]}
    except RecursionError as error:
        problem, seen = "read.json", {"error": str(error)[:200]}
    return RawRecord(source=source, content="", kind="text", problem=problem, metadata=seen)


def _read_parquet(
    raw: IO[bytes], name: str, notes: ReadNotes, keys: Sequence[str]
) -> Iterator[RawRecord]:
    good = 0
    for number, row in enumerate(_parquet_rows(raw, name, notes), 1):
        record = _row(row, f"{name}#{number}", keys, good)
        good += not record.problem
        yield record


def _parquet_rows(raw: IO[bytes], name: str, notes: ReadNotes) -> Iterator[Any]:
    """The rows up to the first page that is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(raw).iter_batches(batch_size=256):
            yield from batch.to_pylist()
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        notes.damaged.append(f"{name}: {' '.join(str(error).split())[:200]}")


def _read_tar(
    plain: Plain, name: str, notes: ReadNotes, keys: Sequence[str], limit: int
) -> Iterator[RawRecord]:
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=plain.stream, mode="r|") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                inner = archive.extractfile(member)
                content = inner.read() if inner is not None else b""
                path = _unlike(member.name, seen)
                yield from read_stream(
                    io.BytesIO(content), f"{name}!{path}", notes, keys=keys, limit=limit
                )
    except tarfile.TarError as error:
        if not plain.truncated:
            notes.damaged.append(f"{name}: {error}")


def _unlike(member: str, seen: set[str]) -> str:
    """A member's name, numbered when the archive had it before: sources name one page each."""
    path, number = member, 1
    while path in seen:
        number += 1
        path = f"{number}!{member}"
    seen.add(path)
    return path
