"""HTTP bodies as they were sent: chunks joined, gzip, deflate, Brotli and Zstandard taken off."""

from __future__ import annotations

import io
import re
import zlib

from fledge.data.streams import GZIP_MAGIC, ZSTD_MAGIC, Plain

_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,200})?\r?\n")


def decoded_body(body: bytes, transfer: str, content: str, limit: int) -> bytes:
    """The first ``limit`` bytes of a page whose headers name these codings.

    Many archives store bodies decoded and keep the headers; such a body comes back as it is.
    """
    if "chunked" in transfer.lower():
        body = joined_chunks(body)
    for coding in reversed([part.strip().lower() for part in content.split(",")]):
        body = _unpacked(body, coding, limit)
    if body[:2] == GZIP_MAGIC or body[:4] == ZSTD_MAGIC:  # packed, and no header says so
        body = Plain(io.BytesIO(body)).stream.read(limit)
    return body


def joined_chunks(body: bytes) -> bytes:
    """The content of a chunked body (RFC 9112, 7.1); ``body`` itself when it is not chunked.

    The last chunk may be cut short.

    >>> joined_chunks(b"4\\r\\nWiki\\r\\n5\\r\\npedia\\r\\n0\\r\\n\\r\\n")
    b'Wikipedia'
    """
    parts: list[bytes] = []
    position = 0
    while position < len(body):
        head = _CHUNK.match(body, position)
        if head is None:
            cut_short = bool(parts) and b"\n" not in body[position : position + 220]
            return b"".join(parts) if cut_short else body
        size = int(head[1], 16)
        if size == 0:
            break
        parts.append(body[head.end() : head.end() + size])
        position = head.end() + size
        position += len(b"\r\n") if body[position : position + 1] == b"\r" else 1
    return b"".join(parts)


def _unpacked(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip", "zstd"):
        packed = body[:2] == GZIP_MAGIC or body[:4] == ZSTD_MAGIC
        return Plain(io.BytesIO(body)).stream.read(limit) if packed else body
    if coding == "deflate":
        return _inflated(body, limit)
    if coding == "br":
        return _brotli(body, limit)
    return body


def _inflated(body: bytes, limit: int) -> bytes:
    """Deflate with its header, as the standard says, or without, as some servers send it."""
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(wbits=bits).decompress(body, limit) or body
        except zlib.error:
            continue
    return body


def _brotli(body: bytes, limit: int) -> bytes:
    from fastwarc.stream_io import BrotliReader

    reader = BrotliReader(io.BytesIO(body))
    parts: list[bytes] = []
    left = limit
    try:
        while left > 0 and (part := reader.read(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    except OSError:  # cut short, or stored decoded
        pass
    return b"".join(parts) or body
