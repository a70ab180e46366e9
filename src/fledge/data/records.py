"""What readers hand on: raw records, and notes about files that could not be read whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["html", "markdown", "text"]


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """One page, file, line or row as it was found."""

    source: str
    """Where: ``file``, ``file#offset``, ``file#line`` or ``archive!member#line``."""

    content: bytes | str
    """The page; bytes when its character set is still to be found out."""

    kind: Kind
    web: bool = False
    """Whether it is a web page, with navigation and advertisements around the text."""

    url: str = ""
    title: str = ""
    date: str = ""
    charset: str = ""
    """The character set the server declared, or empty."""

    work: str = ""
    """Name of the work it is part of (a record's own id or path); never split between sets."""

    metadata: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    """A reason to drop it that the reader saw (``read.truncated`` …), or empty."""

    @property
    def id(self) -> str:
        """A stable name: 32 hex digits of SHA-256 of the source."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def size(self) -> int:
        """Size in bytes (of text: in UTF-8)."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return len(self.content.encode("utf-8", "surrogatepass"))


@dataclass(kw_only=True)
class ReadNotes:
    """What the readers noticed; becomes part of the statistics."""

    files: int = 0
    """Files opened, members of archives included."""

    truncated: list[str] = field(default_factory=list)
    """Files that end too early; what could be read of them is used."""

    damaged: list[str] = field(default_factory=list)
    """Files with a part that cannot be read, with the reason."""

    skipped: list[str] = field(default_factory=list)
    """Files of a kind that is not read."""

    left_out: dict[str, int] = field(default_factory=dict)
    """Files below the input folders that are of a kind that is not read: extension -> number."""

    skipped_records: int = 0
    """Records that are no pages: requests, metadata, robots.txt, images."""
