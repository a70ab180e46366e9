"""A source: what is read as one piece (a file, a URL, a row), and how to tell that it changed.

Ids.  A source's id never holds "#" or "!"; a document in it has the id of the source alone, or
followed by "!" and a member of an archive, or "#" and a record.  So ``owner`` is exact.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fledge.index.load.formats import format_named
from fledge.index.loaded import Loaded, Unreadable

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_RESERVED = re.compile(r"[%#!\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is read as one piece.

    ``file`` holds it, or ``content`` when it came from the network or a database.
    """

    id: str
    """Stable over versions: a file's path below the input, a URL, a table and its key."""
    path: str
    """What people know it by: a file's path as it was given, or a URL without secrets."""
    name: str
    """Its extension says the format: "a.pdf", "page.html"."""
    kind: Literal["file", "url", "row"] = "file"
    stamp: str = ""
    """Cheap to tell without reading: a file's size and time of change, a server's ETag; or ""."""
    file: Path | None = None
    content: bytes | None = field(default=None, repr=False)
    charset: str = ""
    """The character set that a server declared."""
    modified: str = ""
    """ISO 8601 date of the last change that a server told."""

    def digest(self) -> str:
        """The first 32 hex digits of SHA-256 of its bytes; reads the file.  Raises OSError."""
        if self.content is not None:
            return digest_of(self.content)
        assert self.file is not None
        with self.file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:32]

    def now(self) -> str:
        """The stamp of a file as it is at this moment; "" for what is in memory."""
        return "" if self.file is None else stamp_of(self.file.stat())

    @property
    def format(self) -> str:
        """What its name says it is: "pdf", "zip", or "" """
        return format_named(self.name)

    @property
    def size(self) -> int:
        """In bytes.  Raises OSError when the file is gone."""
        if self.content is not None:
            return len(self.content)
        assert self.file is not None
        return self.file.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What came of one source: its documents, and what could not be read of it.

    ``digest`` belongs to the bytes that were parsed, "" when they could not be read: an index that
    keeps it beside the documents knows next time whether there is anything to do.
    """

    source: Source
    digest: str
    items: tuple[Loaded | Unreadable, ...]

    @property
    def documents(self) -> tuple[Loaded, ...]:
        return tuple(item for item in self.items if isinstance(item, Loaded))

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        return tuple(item for item in self.items if isinstance(item, Unreadable))


def digest_of(content: bytes) -> str:
    """``Source.digest`` of these bytes."""
    return hashlib.sha256(content).hexdigest()[:32]


def stamp_of(found: os.stat_result) -> str:
    """Size and time of change of a file."""
    return f"{found.st_size}-{found.st_mtime_ns}"


def owner(document: str) -> str:
    """The id of the source that a document of this id is read from.

    >>> owner("docs/mail.mbox#3!plan.pdf"), owner("docs/a.md")
    ('docs/mail.mbox', 'docs/a.md')
    """
    return re.split("[#!]", document, maxsplit=1)[0]


def quoted(part: str) -> str:
    """A part of an id: what ids reserve, and what no text should hold, percent-encoded.

    >>> quoted("C# notes!.md")
    'C%23 notes%21.md'
    """
    return _RESERVED.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")),
        part,
    )


def shown(path: str) -> str:
    """A path as it may stand in a report: without control characters and broken UTF-8."""
    return _UNPRINTABLE.sub("\ufffd", path)
