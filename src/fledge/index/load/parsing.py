"""A source in, its documents out, or why it cannot be read; in this process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fledge.index.load.blob import Blob, Budget, Refused, too_large
from fledge.index.load.config import LoadConfig
from fledge.index.load.formats import LARGE, NOT_READ
from fledge.index.load.pen import Written, finish
from fledge.index.load.sniff import format_of
from fledge.index.load.source import Parsed, Source, digest_of
from fledge.index.loaded import Loaded, Unreadable

WHOLE = {
    "plain": "plain.read_plain",
    "code": "plain.read_code",
    "markdown": "plain.read_markdown",
    "html": "page.read_page",
    "pdf": "pdf.read_pdf",
    "docx": "docx.read_docx",
    "pptx": "pptx.read_pptx",
    "xlsx": "xlsx.read_xlsx",
    "csv": "tables.read_csv",
}
"""Readers of formats that hold one document: (blob, budget) -> Written."""

RECORDS = {
    "json": "records.read_json",
    "jsonl": "records.read_jsonl",
    "parquet": "records.read_parquet",
}
"""Readers of formats that hold many: (blob, budget) -> documents."""

CONTAINERS = {
    "mail": "mail.read_mail",
    "mailbox": "mail.read_mailbox",
    "zip": "archive.read_zip",
    "tar": "archive.read_tar",
    "packed": "archive.read_packed",
}
"""Readers of formats that hold files: (blob, budget, what parses these) -> documents."""


def parse(source: Source, config: LoadConfig | None = None) -> Parsed:
    """The documents of a source.

    Raises nothing for a file's fault.  A parser written in C that a hostile file brings down
    takes this process with it, and nothing limits its time: ``parse_all`` does both.
    """
    config = config or LoadConfig()
    if source.kind == "row":  # its text has been chosen already
        config = config.model_copy(update={"text_keys": []})
    try:
        stamp = source.now()
        blob, digest = _opened(source, config)
        items = tuple(parse_blob(blob, Budget(config=config)))
        if source.now() != stamp:
            raise Refused("changed", "it changed while it was read")
    except Refused as why:
        return refused(source, why.reason, why.evidence)
    except OSError as error:
        return refused(source, "unreadable", error.strerror or str(error))
    return Parsed(source=source, digest=digest, items=items)


def refused(source: Source, reason: str, evidence: str = "") -> Parsed:
    """A source nothing of which was read."""
    item = Unreadable(path=source.path, reason=reason, evidence=evidence)
    return Parsed(source=source, digest="", items=(item,))


def _opened(source: Source, config: LoadConfig) -> tuple[Blob, str]:
    """(the bytes of a source, their digest); files that are parsed whole are read once for both."""
    name = "archive_bytes" if source.format in LARGE else "file_bytes"
    limit = getattr(config.limits, name)
    if source.size > limit:
        raise too_large(f"{source.size:,} bytes are more", name, limit)
    content: bytes | Path | None = source.content
    modified = source.modified
    if source.file is not None:
        moment = datetime.fromtimestamp(source.file.stat().st_mtime, UTC)
        modified = moment.date().isoformat()
        content = source.file if name == "archive_bytes" else source.file.read_bytes()
    assert content is not None
    blob = Blob(
        id=source.id,
        path=source.path,
        name=source.name,
        content=content,
        charset=source.charset,
        url=source.path if source.kind == "url" else "",
        modified=modified,
    )
    return blob, digest_of(content) if isinstance(content, bytes) else source.digest()


def parse_blob(blob: Blob, budget: Budget) -> Iterator[Loaded | Unreadable]:
    """The documents of a blob.  Raises Refused only when the whole source is given up."""
    try:
        items = list(_documents(blob, budget))
    except Refused as why:
        if why.final:
            raise
        yield Unreadable(path=blob.path, reason=why.reason, evidence=why.evidence)
    except MemoryError:
        yield Unreadable(path=blob.path, reason="memory", evidence="it needs too much memory")
    except RecursionError:
        yield Unreadable(path=blob.path, reason="broken", evidence="nested too deep")
    except OSError:
        if not isinstance(blob.content, bytes):
            raise
        yield Unreadable(path=blob.path, reason="broken", evidence="it cannot be unpacked")
    except Exception as error:  # parsers fail on hostile files in every way there is
        evidence = f"{type(error).__name__}: {error}"[:200]
        yield Unreadable(path=blob.path, reason="broken", evidence=evidence)
    else:
        yield from items


def _documents(blob: Blob, budget: Budget) -> Iterator[Loaded | Unreadable]:
    suffix = "." + blob.name.lower().rsplit(".", 1)[-1]
    format = format_of(blob)
    if suffix in NOT_READ and (format in ("", "zip") or suffix == ".rtf"):
        raise Refused("unsupported", NOT_READ[suffix])
    if not format:
        seen = suffix if "." in blob.name else "no extension"
        raise Refused("binary", f"{seen}, {blob.head(8)!r}")
    if format in CONTAINERS:
        if blob.depth >= budget.config.limits.depth:
            raise Refused("too_deep", f"limits.depth = {budget.config.limits.depth}")
        yield from _reader(CONTAINERS[format])(blob, budget, parse_blob)
    elif format in RECORDS:
        yield from _reader(RECORDS[format])(blob, budget)
    else:
        written: Written = _reader(WHOLE[format])(blob, budget)
        yield finish(blob, written, format)


def _reader(place: str) -> Callable[..., Any]:
    """A reader by its file and name: each file is imported when its format is met."""
    module, name = place.split(".")
    found = importlib.import_module(f"fledge.index.load.{module}")
    reader: Callable[..., Any] = getattr(found, name)
    return reader
