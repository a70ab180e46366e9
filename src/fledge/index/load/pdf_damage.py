"""Whether a PDF is whole.

PDFium repairs what it can and reads on: of a damaged stream it shows the part before the damage,
and half a page looks like a page.  Here the compressed streams are unpacked once with their check
sums, so that such a file is reported instead.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from fledge.index.load.blob import CHUNK, Budget, bomb
from fledge.index.load.pdf_syntax import syntax_problem

_OBJECT = re.compile(rb"(?<![0-9])(\d{1,10})[ \t\r\n]+\d{1,5}[ \t\r\n]+obj\b")
_STREAM = re.compile(rb"(?<!end)stream\r?\n")
_FILTER = re.compile(rb"/Filter\s*\[?\s*/([^\s/<>\[\]()]*)")
_LENGTH = re.compile(rb"/Length\s+(\d{1,10})(\s+\d+\s+R\b)?")
_IMAGE = re.compile(rb"/Subtype\s*/Image\b")
_SECTION = re.compile(rb"(\d+)[ \t]+\d+[ \t]*\r?\n((?:\d{10} \d{5} [fn][ \r\n]{1,2})*)")
_TABLE = re.compile(rb"(?<!start)xref[ \t]*\r?\n[ \t]*((?:" + _SECTION.pattern + rb")+)")
_ENTRY = re.compile(rb"(\d{10}) \d{5} ([fn])")
_FLATE = (b"FlateDecode", b"Fl")
_FILTERS = (
    *_FLATE, b"LZWDecode", b"LZW", b"ASCII85Decode", b"A85", b"ASCIIHexDecode", b"AHx",
    b"RunLengthDecode", b"RL", b"DCTDecode", b"DCT", b"CCITTFaxDecode", b"CCF", b"JBIG2Decode",
    b"JPXDecode", b"Crypt",
)  # fmt: skip
_REFERENCE = re.compile(rb"(?<![0-9])(\d{1,10})[\x00\t\n\x0c\r ]+\d{1,5}[\x00\t\n\x0c\r ]+R\b")
_BEGINS = re.compile(rb"\bBT\b")
_SHOWS = re.compile(rb"\bT[jJ]\b")
_LONGEST_HEAD = 100_000
"""Bytes of an object's dictionary that are still checked for slips."""

_TAIL_BYTES = 2048
"""Readers look for the end mark in the last 1,024 bytes; some writers add more behind it."""


@dataclass
class _Seen:
    """What the objects of a file hold."""

    showing: set[int] = field(default_factory=set)
    """Objects whose stream shows text as a page's content does."""
    meant: set[int] = field(default_factory=set)
    """Objects that pages name as their contents, and others beside these."""


def find_damage(data: bytes, budget: Budget) -> tuple[tuple[str, str] | None, set[int]]:
    """((reason, evidence) of a PDF that is cut short or damaged, contents that no page refers to).

    None for a whole one.  Images are not looked at, nor the streams of an encrypted file.
    """
    if b"%PDF-" not in data[:1024]:
        return ("broken", f"it begins with {data[:16]!r}, not with %PDF-"), set()
    if b"%%EOF" not in data[-_TAIL_BYTES:]:
        return ("truncated", "the end mark %%EOF is missing"), set()
    found = list(_OBJECT.finditer(data))
    missing = _promised(data) - {int(match[1]) for match in found}
    if missing:
        return ("damaged", f"object {min(missing)} is missing"), set()
    encrypted = b"/Encrypt" in data
    seen = _Seen()
    position = 0
    for match, following in zip(found, [*found[1:], None], strict=True):
        if match.start() < position:
            continue  # inside the stream of the object before
        end = following.start() if following else len(data)
        number = int(match[1])
        problem, position = _look(data, (match.end(), end), number, budget, seen, encrypted)
        if problem:
            return ("damaged", f"object {number}: {problem}"), set()
    return None, set() if encrypted else seen.showing - seen.meant


def _promised(data: bytes) -> set[int]:
    """Numbers of the objects in use, by the tables of the file; those in streams are not read."""
    numbers: set[int] = set()
    for table in _TABLE.finditer(data):
        for section in _SECTION.finditer(table[1]):
            entries = _ENTRY.findall(section[2])
            first = int(section[1])
            numbers |= {
                first + place
                for place, (offset, use) in enumerate(entries)
                if use == b"n" and int(offset)
            }
    return numbers


def _look(
    data: bytes, place: tuple[int, int], number: int, budget: Budget, seen: _Seen, encrypted: bool
) -> tuple[str, int]:
    """(what is wrong with the object whose body stands at ``place``, where to look on)"""
    start, end = place
    stream = _STREAM.search(data, start, end)
    close = data.find(b"endobj", start, end)
    if stream and 0 <= close < stream.start():
        stream = None
    if stream is None and close < 0:
        return "it does not end", end
    head = data[start : stream.start() if stream else close]
    _note_meant(head, seen)
    slip = "" if encrypted or len(head) > _LONGEST_HEAD else syntax_problem(head)
    if slip or stream is None:
        return slip, end
    if not _LENGTH.search(head):
        return "its stream has no length", end
    found = _FILTER.search(head)
    if found and found[1] not in _FILTERS:
        return f"no filter is called {found[1].decode('latin-1')!r}", end
    if encrypted or _IMAGE.search(head):
        return "", stream.end()
    if not found:
        length = _LENGTH.search(head)
        stop = stream.end() + int(length[1]) if length and not length[2] else 0
        if stop and b"endstream" not in data[stop - 4 : stop + 16]:
            return "its stream is not as long as it says", end
        _note(head, data[stream.end() : end], number, seen)
        return "", max(stop, stream.end())
    if found[1] not in _FLATE:
        return "", stream.end()
    problem, position, content = _unpack(data, stream.end(), budget)
    _note(head, content, number, seen)
    return problem, position


def _note_meant(body: bytes, seen: _Seen) -> None:
    """Keep which objects may be the contents of a page, by an object or many of them."""
    if b"/Contents" in body or body.lstrip().startswith(b"["):
        seen.meant.update(int(meant) for meant in _REFERENCE.findall(body))


def _note(head: bytes, content: bytes, number: int, seen: _Seen) -> None:
    """Keep what the stream of an object says about it and others."""
    if b"/ObjStm" in head:
        _note_meant(content, seen)
    elif b"/Type" not in head and b"/Subtype" not in head:
        begins = _BEGINS.search(content)
        if begins and _SHOWS.search(content, begins.end()):
            seen.showing.add(number)


def _unpack(data: bytes, start: int, budget: Budget) -> tuple[str, int, bytes]:
    """(what is wrong with the zlib stream at ``start``, where it ends, what it holds)"""
    problem = "its stream ends too early"
    try:
        end, content = _inflate(zlib.decompressobj(), data, start, budget)
        if end >= 0:
            return "", end, content
    except zlib.error as error:
        problem = f"its stream: {error}"
    if "data check" not in problem:
        flushed = _flushed(data, start, budget)
        return ("" if flushed else problem), start, flushed
    end, content = _inflate(zlib.decompressobj(-15), data, start + 2, budget)
    unsummed = data[end : end + 11].lstrip().startswith(b"endstream")  # some writers leave it out
    return ("" if unsummed else "the check sum of its stream is wrong"), end, content


def _flushed(data: bytes, start: int, budget: Budget) -> bytes:
    """What a stream holds that Acrobat flushed but did not finish: nothing of it is missing."""
    packed = data[start : max(data.find(b"endstream", start), start)].rstrip(b"\r\n")
    if not packed.endswith(b"\x00\x00\xff\xff"):
        return b""
    try:
        return zlib.decompressobj().decompress(packed, budget.config.limits.file_bytes)
    except zlib.error:
        return b""


def _inflate(
    decoder: zlib._Decompress, data: bytes, start: int, budget: Budget
) -> tuple[int, bytes]:
    """(where the stream that begins at ``start`` ends, -1 when the file ends first; its bytes)"""
    limits = budget.config.limits
    position, waiting = start, b""
    parts = []
    while not decoder.eof:
        if not waiting:
            waiting = data[position : position + (CHUNK >> 4)]
            position += len(waiting)
            if not waiting:
                return -1, b""
        parts.append(decoder.decompress(waiting, CHUNK))
        budget.unpacked += len(parts[-1])
        waiting = decoder.unconsumed_tail
        if budget.unpacked > limits.unpacked_bytes:
            raise bomb("more bytes unpacked", "unpacked_bytes", limits.unpacked_bytes)
        if len(parts) * CHUNK > limits.file_bytes:
            raise bomb("a stream unpacks to more bytes", "file_bytes", limits.file_bytes)
    return position - len(decoder.unused_data), b"".join(parts)
