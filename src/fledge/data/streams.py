"""Files as plain bytes: gzip and Zstandard are taken off, and an early end is noticed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import IO, Any

import zstandard

CHUNK = 1 << 16
ZSTD_CHUNK = 1 << 11
"""Packed bytes that are unpacked at once: four of them may stand for 128 KiB."""

MAX_WINDOW = 1 << 31
"""Largest Zstandard window accepted, in bytes (``zstd --long=31``)."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def _gzip_decoder() -> Any:
    return zlib.decompressobj(wbits=31)


def _zstd_decoder() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()


class Inflate(io.RawIOBase):
    """Reads a compressed file of one or more members.

    A damaged or short file does not raise: reading ends, ``truncated`` or ``damaged`` says why.
    """

    def __init__(self, raw: IO[bytes], decoder: Callable[[], Any], chunk: int = CHUNK) -> None:
        self._raw = raw
        self._chunk = chunk
        self._make = decoder
        self._decoder = decoder()
        self._fresh = True  # nothing of the current member was read yet
        self._buffer = b""
        self._place = 0
        """What of the buffer was handed out: cutting it would copy a bomb's megabytes each time."""
        self._done = False
        self.truncated = False
        self.damaged = ""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while self._place == len(self._buffer) and not self._done:
            self._buffer, self._place = b"", 0
            self._fill()
        taken = self._buffer[self._place : self._place + len(target)]
        self._place += len(taken)
        target[: len(taken)] = taken
        return len(taken)

    def _fill(self) -> None:
        if self._decoder.eof:
            rest = self._decoder.unused_data
            self._decoder, self._fresh = self._make(), True
        else:
            rest = b""
        chunk = rest or self._raw.read(self._chunk)
        if not chunk:
            self._done, self.truncated = True, not self._fresh
            return
        if self._fresh and not chunk.strip(b"\0"):
            return  # padding between or after members
        try:
            self._buffer = self._decoder.decompress(chunk)
            self._fresh = False
        except (zlib.error, zstandard.ZstdError) as error:
            self._done, self.damaged = True, str(error)


class Plain:
    """A readable byte stream and what is known about its end."""

    def __init__(self, raw: IO[bytes]) -> None:
        if not isinstance(raw, io.BufferedReader):
            raw = io.BufferedReader(raw)  # type: ignore[type-var]  # readers peek
        magic = raw.peek(4)[:4]
        self._inflate: Inflate | None = None
        if magic[:2] == GZIP_MAGIC:
            self._inflate = Inflate(raw, _gzip_decoder)
        elif magic == ZSTD_MAGIC:
            self._inflate = Inflate(raw, _zstd_decoder, ZSTD_CHUNK)
        self.stream: IO[bytes] = io.BufferedReader(self._inflate, CHUNK) if self._inflate else raw

    @property
    def truncated(self) -> bool:
        return self._inflate is not None and self._inflate.truncated

    @property
    def damaged(self) -> str:
        return self._inflate.damaged if self._inflate is not None else ""


def gzip_is_whole(raw: IO[bytes], offset: int) -> tuple[bool, str]:
    """Whether gzip members from byte ``offset`` on are complete: (not truncated, damage)."""
    raw.seek(offset)
    inflate = Inflate(raw, _gzip_decoder)
    while inflate.read(CHUNK):
        pass
    return not inflate.truncated, inflate.damaged
