"""Whether a PDF is whole.

PDFium repairs what it can and reads on: of a damaged stream it shows the part before the damage,
and half a page looks like a page.  Here the compressed streams are unpacked once with their check
sums, so that such a file is reported instead.
"""

from __future__ import annotations

import re
import zlib

from fledge.index.load.blob import CHUNK, Budget, bomb

_STREAM = re.compile(rb"(?<!end)stream\r?\n")
_FLATE = re.compile(rb"/Filter\s*\[?\s*/(?:FlateDecode|Fl)\b")
_IMAGE = re.compile(rb"/Subtype\s*/Image\b")
_DICTIONARY_BYTES = 2000
_TAIL_BYTES = 2048
"""Readers look for the end mark in the last 1,024 bytes; some writers add more behind it."""


def find_damage(data: bytes, budget: Budget) -> tuple[str, str] | None:
    """(reason, evidence) of a PDF that is cut short or has a damaged stream; None for a whole one.

    Images are not looked at, nor are the streams of an encrypted file.
    """
    if b"%PDF-" not in data[:1024]:
        return "broken", f"it begins with {data[:16]!r}, not with %PDF-"
    if b"%%EOF" not in data[-_TAIL_BYTES:]:
        return "truncated", "the end mark %%EOF is missing"
    if b"/Encrypt" in data:
        return None
    for found in _STREAM.finditer(data):
        head = data[max(0, found.start() - _DICTIONARY_BYTES) : found.start()]
        head = head[head.rfind(b"obj") + 3 :]
        if _FLATE.search(head) and not _IMAGE.search(head):
            problem = _unpack(data, found.end(), budget)
            if problem:
                return "damaged", f"the stream at byte {found.end():,}: {problem}"
    return None


def _unpack(data: bytes, start: int, budget: Budget) -> str:
    """What is wrong with the zlib stream at ``start``, or ""."""
    try:
        if _inflate(zlib.decompressobj(), data, start, budget) >= 0:
            return ""
        return "it ends too early"
    except zlib.error as error:
        if "data check" not in str(error):
            return str(error)
    end = _inflate(zlib.decompressobj(-15), data, start + 2, budget)
    unsummed = data[end : end + 11].lstrip().startswith(b"endstream")  # some writers leave it out
    return "" if unsummed else "its check sum is wrong"


def _inflate(decoder: zlib._Decompress, data: bytes, start: int, budget: Budget) -> int:
    """Where the stream that begins at ``start`` ends; -1 when the file ends first."""
    limits = budget.config.limits
    position, waiting = start, b""
    while not decoder.eof:
        if not waiting:
            waiting = data[position : position + (CHUNK >> 4)]
            position += len(waiting)
            if not waiting:
                return -1
        budget.unpacked += len(decoder.decompress(waiting, CHUNK))
        waiting = decoder.unconsumed_tail
        if budget.unpacked > limits.unpacked_bytes:
            raise bomb("more bytes unpacked", "unpacked_bytes", limits.unpacked_bytes)
    return position - len(decoder.unused_data)
