"""What a blob is, by its first bytes and its name."""

from __future__ import annotations

from fledge.data.decode import looks_binary
from fledge.index.load.blob import Blob
from fledge.index.load.formats import format_named

_ZIPPED = (b"word/", "docx"), (b"ppt/", "pptx"), (b"xl/", "xlsx")


def format_of(blob: Blob) -> str:
    """The format of a blob: a value of ``FORMATS``, "plain", or "" for what is no text.

    What the first bytes say for certain (PDF, zip, gzip) goes before the name.
    """
    named = format_named(blob.name)
    head = blob.head()
    if named in ("tar", "packed"):
        return named
    certain = _certain(head, named)
    if certain:
        return certain
    if named:
        return named
    return "" if looks_binary(head) and not head.startswith((b"\xff\xfe", b"\xfe\xff")) else "plain"


def _certain(head: bytes, named: str) -> str:
    """The format that the first bytes show, or ""."""
    if b"%PDF-" in head[:1024] and named in ("", "pdf"):
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        if named in ("docx", "pptx", "xlsx", "zip"):
            return named
        if b"[Content_Types].xml" in head or b"_rels/.rels" in head:
            return next((format for mark, format in _ZIPPED if mark in head), "zip")
        return "zip"
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return "packed"
    return ""
