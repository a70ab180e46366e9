"""WARC and ARC files to raw records: pages only, each with its offset in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from fastwarc.warc import ArchiveIterator, WarcRecordType

from fledge.data.coding import decoded_body
from fledge.data.records import Kind, RawRecord, ReadNotes
from fledge.data.streams import GZIP_MAGIC, ZSTD_MAGIC, Plain, gzip_is_whole

PAGE_TYPES: dict[str, Kind] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "text",
    "text/markdown": "markdown",
}

_WANTED = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
_ARC_LINE = re.compile(rb"^(\S.*?) (\S+) (\d{8,14}) (\S+) (\d+)\r?$")


def read_warc(raw: IO[bytes], name: str, notes: ReadNotes, limit: int) -> Iterator[RawRecord]:
    """Pages of a WARC file (plain, gzip or Zstandard); ``limit`` is the largest page in bytes."""
    magic = raw.read(4)
    raw.seek(0)
    offset, same, short = -1, 0, False
    try:
        for record in ArchiveIterator(raw, record_types=_WANTED, quirks_mode=True):
            same = same + 1 if record.stream_pos == offset else 0
            offset = record.stream_pos  # a file packed as one member has one for all its records
            place = f"{offset}.{same}" if same else str(offset)
            page, short = _page(record, f"{name}#{place}", limit)
            if page is None:
                notes.skipped_records += 1
            else:
                yield page
    except OSError as error:
        notes.damaged.append(f"{name}: {error} after byte {max(offset, 0)}")
        return
    offset = max(offset, 0)
    if not short and magic[:2] == GZIP_MAGIC:
        whole, damage = gzip_is_whole(raw, offset)
        short = not whole
        if damage:
            notes.damaged.append(f"{name}: {damage} after byte {offset}")
    elif not short and magic == ZSTD_MAGIC:
        short = _zstd_is_short(raw)
    if short:
        notes.truncated.append(name)


def _zstd_is_short(raw: IO[bytes]) -> bool:
    raw.seek(0)
    plain = Plain(raw)
    while plain.stream.read(1 << 20):
        pass
    return plain.truncated


def _page(record: Any, source: str, limit: int) -> tuple[RawRecord | None, bool]:
    """The record as a page (None: no page), and whether the file ended inside it."""
    length = record.content_length  # bytes after the HTTP header that should follow
    body = record.reader.read(limit + 1)
    short = len(body) < min(length, limit)
    url = record.headers.get("WARC-Target-URI") or ""
    kind = PAGE_TYPES.get(_content_type(record))
    if kind is None or not _is_ok(record) or url.endswith("/robots.txt"):
        return None, short
    content = _decoded(record, body, limit + 1)
    large = len(body) > limit or len(content) > limit
    page = RawRecord(
        source=source,
        content=content,
        kind=kind,
        web=True,
        url=url.strip("<>"),
        charset=(record.http_charset or "") if record.is_http_parsed else "",
        work=url.strip("<>"),
        metadata={"fetched": record.headers.get("WARC-Date") or ""},
        problem="read.truncated" if short else "read.too_large" if large else "",
    )
    return page, short


def _is_ok(record: Any) -> bool:
    return record.http_headers is None or record.http_headers.status_code in (200, 203, None)


def _content_type(record: Any) -> str:
    if record.http_headers is not None:
        declared = record.http_headers.get("Content-Type") or "text/html"
    else:
        declared = record.headers.get("Content-Type") or ""
    return str(declared).split(";")[0].strip().lower()


def _decoded(record: Any, body: bytes, limit: int) -> bytes:
    """The body without its HTTP codings, which the iterator leaves on (it fails on wrong ones)."""
    headers = record.http_headers
    if headers is None:
        return body
    transfer, content = headers.get("Transfer-Encoding"), headers.get("Content-Encoding")
    return decoded_body(body, transfer or "", content or "", limit)


def read_arc(stream: IO[bytes], name: str, notes: ReadNotes, limit: int) -> Iterator[RawRecord]:
    """Pages of an ARC 1 file, the older format; ``stream`` is already decompressed."""
    position = 0
    while line := stream.readline():
        start, position = position, position + len(line)
        if not line.strip():
            continue
        match = _ARC_LINE.match(line.rstrip(b"\n"))
        if match is None:
            notes.damaged.append(f"{name}: no ARC header at byte {start}")
            return
        length = int(match[5])
        block = stream.read(length)
        position += len(block)
        if len(block) < length:
            notes.truncated.append(name)
        record = _arc_page(match, block, f"{name}#{start}", len(block) < length, limit)
        if record is None:
            notes.skipped_records += 1
        else:
            yield record


def _arc_page(
    match: re.Match[bytes], block: bytes, source: str, short: bool, limit: int
) -> RawRecord | None:
    url = match[1].decode("utf-8", "replace")
    kind = PAGE_TYPES.get(match[4].decode("ascii", "replace").lower())
    if kind is None or url.startswith("filedesc:"):
        return None
    head, _, body = block.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        body = block
    elif b" 200" not in head.split(b"\n", 1)[0]:
        return None
    problem = "read.truncated" if short else "read.too_large" if len(body) > limit else ""
    return RawRecord(
        source=source, content=body, kind=kind, web=True, url=url, work=url, problem=problem
    )
