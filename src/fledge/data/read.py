"""Inputs (paths, folders, globs) to raw records, whatever their format and compression."""

from __future__ import annotations

import glob
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fledge.core.errors import InputError
from fledge.data.records import Kind, RawRecord, ReadNotes
from fledge.data.rows import row_record
from fledge.data.streams import Plain
from fledge.data.warc import read_arc, read_warc

PAGES: dict[str, Kind] = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
ROWS = (".jsonl", ".ndjson")
ARCHIVES = (".tar", ".tgz")
WARCS = (".warc", ".arc")
PACKED = (".gz", ".zst")
READ = (*PAGES, *ROWS, ".parquet", *ARCHIVES, *WARCS)

_LEGAL = ("LICENSE", "LICENCE", "COPYING", "NOTICE")


def expand_inputs(inputs: Sequence[Path | str]) -> list[Path]:
    """The files that ``inputs`` name, sorted, each once; raises InputError when one names none."""
    found: dict[str, Path] = {}
    for item in inputs:
        for path in _expand(str(item)):
            found.setdefault(str(path), path)
    return [found[key] for key in sorted(found)]


def _expand(item: str) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and _wanted(path, file)]
        if not files:
            raise InputError(
                f"{item} holds no file that can be read", remedy=f"put pages there: {_kinds()}"
            )
        return files
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    files = [match for match in matches if match.is_file()]
    for folder in (match for match in matches if match.is_dir()):
        files += [file for file in folder.rglob("*") if file.is_file() and _wanted(folder, file)]
    if not files:
        raise InputError(f"input {item!r} matches no file", remedy="check the path or the pattern")
    return files


def _wanted(folder: Path, file: Path) -> bool:
    """Whether a file found in a folder is one to read: no hidden file, no licence."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    legal = file.name.upper().startswith(_LEGAL)
    return not hidden and not legal and suffix(file.name) in READ


def _kinds() -> str:
    return ", ".join(sorted({*READ}))


def suffix(name: str) -> str:
    """The extension that tells the format: ``a.jsonl.zst`` -> ``.jsonl``; empty for none."""
    path = PurePosixPath(name.lower().removesuffix(".bad"))
    while path.suffix in PACKED:
        path = path.with_suffix("")
    return path.suffix


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
        except ValueError as error:
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
        seen = {"error": error.message[:200]}
        return RawRecord(
            source=source, content="", kind="text", problem="read.no_text", metadata=seen
        )


def _read_parquet(
    raw: IO[bytes], name: str, notes: ReadNotes, keys: Sequence[str]
) -> Iterator[RawRecord]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(raw)
    except (pa.ArrowInvalid, OSError) as error:
        notes.damaged.append(f"{name}: {error}")
        return
    number = good = 0
    for batch in table.iter_batches(batch_size=256):
        for row in batch.to_pylist():
            number += 1
            record = _row(row, f"{name}#{number}", keys, good)
            good += not record.problem
            yield record


def _read_tar(
    plain: Plain, name: str, notes: ReadNotes, keys: Sequence[str], limit: int
) -> Iterator[RawRecord]:
    try:
        with tarfile.open(fileobj=plain.stream, mode="r|") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                inner = archive.extractfile(member)
                content = inner.read() if inner is not None else b""
                yield from read_stream(
                    io.BytesIO(content), f"{name}!{member.name}", notes, keys=keys, limit=limit
                )
    except tarfile.ReadError as error:
        if not plain.truncated:
            notes.damaged.append(f"{name}: {error}")
