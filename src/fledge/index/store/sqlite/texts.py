"""Texts in pieces of 65,536 characters, compressed where it pays: a quote reads one or two."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from fledge.index.loaded import Box

PIECE = 1 << 16
"""Characters in a piece."""
PARTS = 24
"""Bits of a key that number the pieces of a document; the others are the document's number."""
BOXES = 4096
"""Boxes in a piece."""

_BOX = np.dtype(
    [("start", "<u4"), ("end", "<u4"), ("page", "<u4")]
    + [(side, "<f4") for side in ("left", "bottom", "right", "top")]
)
_WORTH = 0.9
"""A piece is stored compressed when that makes it at least this much smaller."""


def text_rows(document: int, text: str) -> Iterator[tuple[int, int, bytes]]:
    """(key, whether compressed, bytes) of each piece of a document's text."""
    for part, start in enumerate(range(0, len(text), PIECE)):
        plain = text[start : start + PIECE].encode("utf-8", "surrogatepass")
        small = zlib.compress(plain, 1)
        packed = len(small) < _WORTH * len(plain)
        yield (document << PARTS) + part, int(packed), small if packed else plain


def unpacked(packed: int, data: bytes) -> str:
    """The text of a piece."""
    return (zlib.decompress(data) if packed else data).decode("utf-8", "surrogatepass")


def keys_of(document: int, start: int, end: int) -> tuple[int, int]:
    """The first and the last key of the pieces that hold text[start:end] (end > start)."""
    base = document << PARTS
    return base + start // PIECE, base + (end - 1) // PIECE


def box_rows(document: int, boxes: Sequence[Box]) -> Iterator[tuple[int, int, int, bytes]]:
    """(key, first start, last end, bytes) of each piece of a document's boxes."""
    ordered = sorted(boxes, key=lambda box: (box.start, box.end))
    for part, first in enumerate(range(0, len(ordered), BOXES)):
        piece = ordered[first : first + BOXES]
        rows = np.array(
            [(b.start, b.end, b.page, b.left, b.bottom, b.right, b.top) for b in piece], dtype=_BOX
        )
        last = int(rows["end"].max())
        yield (document << PARTS) + part, piece[0].start, last, zlib.compress(rows.tobytes(), 1)


def boxes_in(data: bytes, start: int, end: int) -> list[Box]:
    """The boxes of a piece that overlap [start, end)."""
    rows = np.frombuffer(zlib.decompress(data), dtype=_BOX)
    rows = rows[(rows["start"] < end) & (rows["end"] > start)]
    names = _BOX.names or ()
    return [Box(**dict(zip(names, row.tolist(), strict=True))) for row in rows]
