"""Bytes that stand to be parsed, with what is known of them, and what parsing them may cost."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fledge.index.load.config import LoadConfig
from fledge.index.load.source import quoted, shown
from fledge.index.loaded import Loaded, Unreadable

CHUNK = 1 << 20
SMALL_BYTES = 10_000_000
"""What an archive may unpack to, whatever its ratio."""


class Refused(Exception):
    """Something is not read; ``reason`` and ``evidence`` as in ``Unreadable``.

    ``final``: the limits of the whole source are used up, not only those of one member.
    """

    def __init__(self, reason: str, evidence: str = "", *, final: bool = False) -> None:
        super().__init__(f"{reason}: {evidence}")
        self.final = final
        self.reason = reason
        self.evidence = evidence


def too_large(what: str, limit: str, value: float, *, final: bool = False) -> Refused:
    """``what`` exceeds ``limits.<limit>``, whose value is ``value``."""
    return Refused("too_large", f"{what} than limits.{limit} = {_number(value)}", final=final)


def bomb(what: str, limit: str, value: float) -> Refused:
    """An archive that unpacks to far more than its size."""
    final = limit != "ratio"
    return Refused("bomb", f"{what} than limits.{limit} = {_number(value)}", final=final)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes to parse, in memory or in a file."""

    id: str
    """Of the document it is, when it is one."""
    path: str
    name: str
    """Its extension says the format."""
    content: bytes | Path = field(repr=False)
    charset: str = ""
    url: str = ""
    modified: str = ""
    """ISO 8601 date of the file's or member's last change, or ""."""
    depth: int = 0
    """Archives and messages it lies in."""

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def open(self) -> IO[bytes]:
        """A seekable stream of the bytes."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return self.content.open("rb")

    def head(self, size: int = 4096) -> bytes:
        """The first bytes."""
        with self.open() as stream:
            return stream.read(size)

    def member(self, mark: str, name: str, content: bytes, modified: str = "") -> Blob:
        """A blob inside this one; ``mark`` begins with "!" or "#" and completes its id."""
        return Blob(
            id=f"{self.id}{mark[0]}{quoted(mark[1:])}",
            path=f"{self.path}{shown(mark)}",
            name=name,
            content=content,
            modified=modified or self.modified,
            depth=self.depth + 1,
        )


Parse = Callable[[Blob, "Budget"], Iterator[Loaded | Unreadable]]
"""Parses any blob: handed to the readers of archives and mail for what lies inside."""


@dataclass(kw_only=True)
class Budget:
    """The config, and what one source has used of its limits."""

    config: LoadConfig
    unpacked: int = 0
    members: int = 0

    def take_member(self, what: str = "members") -> None:
        """One member, message or record more."""
        self.members += 1
        if self.members > self.config.limits.members:
            raise too_large(f"more {what}", "members", self.config.limits.members, final=True)

    def unpack(self, stream: IO[bytes], packed: int) -> bytes:
        """All bytes of a member whose packed size is ``packed`` (0: unknown), within the limits."""
        limits = self.config.limits
        parts, size = [], 0
        while part := stream.read(CHUNK):
            parts.append(part)
            size += len(part)
            self.unpacked += len(part)
            if size > limits.file_bytes:
                raise too_large("more bytes unpacked", "file_bytes", limits.file_bytes)
            if self.unpacked > limits.unpacked_bytes:
                raise bomb("more bytes unpacked", "unpacked_bytes", limits.unpacked_bytes)
            if packed and size > max(SMALL_BYTES, limits.ratio * packed):
                raise bomb(f"{packed:,} packed bytes unpack to more", "ratio", limits.ratio)
        return b"".join(parts)

    def whole(self, blob: Blob) -> bytes:
        """All bytes of a blob that is parsed in memory."""
        limit = self.config.limits.file_bytes
        if blob.size > limit:
            raise too_large(f"{blob.size:,} bytes are more", "file_bytes", limit)
        if isinstance(blob.content, bytes):
            return blob.content
        with blob.open() as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:  # it grew
            raise too_large(f"{len(data):,} bytes are more", "file_bytes", limit)
        return data
