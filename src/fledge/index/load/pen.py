"""Writes the text of a document piece by piece and keeps where each piece came to stand."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fledge.core.types import Document
from fledge.data.language import UNKNOWN, language_of
from fledge.index.load.blob import Blob, Refused, too_large
from fledge.index.loaded import Box, Loaded, Place

LANGUAGE_SAMPLE = 2_000
"""Characters from which the language is told."""

_LINES = re.compile("\r\n?|\x85|\u2028|\u2029")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def settle(text: str) -> str:
    """Text as documents hold it: NFC, line feeds, no control characters, no lone surrogates.

    Lines stay lines: the number of a line is the number of line feeds before it, plus one.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _SURROGATES.sub("\ufffd", _LINES.sub("\n", text)).replace("\x0c", "\n")
    return unicodedata.normalize("NFC", _CONTROLS.sub("", text))


def one_line(text: str) -> str:
    """Settled text without line breaks and double blanks."""
    return " ".join(settle(text).split())


@dataclass(frozen=True, kw_only=True)
class Written:
    """A document's text with its places, before it has a name."""

    text: str
    kind: str
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = ()
    title: str = ""
    date: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values; those that are empty are left out."""


class Pen:
    """Writes blocks of text, each with a gap before it; the text neither begins nor ends blank."""

    def __init__(self, limit: int) -> None:
        self._parts: list[str] = []
        self._limit = limit
        self._in_list = False
        self.length = 0
        self.places: list[Place] = []
        self.boxes: list[Box] = []

    def block(self, text: str, gap: str = "\n\n") -> tuple[int, int]:
        """Write a block that is already settled; where it stands.  Blank ones are not written."""
        return self._put(text.strip(), gap)

    def item(self, text: str) -> tuple[int, int]:
        """An item of a list, which may be indented; a line below the item before it."""
        gap = "\n" if self._in_list else "\n\n"
        place = self._put(text.rstrip() if self.length else text.strip(), gap)
        self._in_list = True
        return place

    def _put(self, text: str, gap: str) -> tuple[int, int]:
        if not text:
            return self.length, self.length
        if self.length:
            self._add(gap)
        start = self.length
        self._add(text)
        self._in_list = False
        return start, self.length

    def place(self, start: int, label: str) -> None:
        """What was written from ``start`` on stands at ``label``; nothing if that is nothing."""
        if start < self.length:
            self.places.append(Place(start=start, end=self.length, label=label))

    def next_start(self, gap: str = "\n\n") -> int:
        """Where the next block will begin."""
        return self.length + len(gap) if self.length else 0

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self.length += len(text)
        if self.length > self._limit:
            raise too_large("a text of more characters", "characters", self._limit)

    def written(self, kind: str, **more: Any) -> Written:
        """The document; ``more`` are further fields of ``Written``."""
        return Written(
            text="".join(self._parts),
            kind=kind,
            places=tuple(self.places),
            boxes=tuple(self.boxes),
            **more,
        )


def finish(blob: Blob, written: Written, format: str) -> Loaded:
    """The document of a blob; refuses one without text."""
    if not written.text.strip():
        raise Refused("no_text", str(written.metadata.get("seen", "")))
    language = "" if written.kind.startswith("code:") else tell_language(written.text)
    date = written.date or blob.modified
    metadata = {"format": format, "title": one_line(written.title)[:300], **written.metadata}
    metadata["date_from"] = ("text" if written.date else "file") if date else ""
    return Loaded(
        document=Document(
            id=blob.id,
            text=written.text,
            url=blob.url,
            source=blob.path,
            lang=language,
            date=date,
            metadata={key: value for key, value in metadata.items() if value not in ("", None, [])},
        ),
        path=blob.path,
        kind=written.kind,
        places=written.places,
        boxes=written.boxes,
    )


def tell_language(text: str) -> str:
    """The language of a text, as a BCP 47 tag, or ""."""
    language, _ = language_of(text[:LANGUAGE_SAMPLE])
    return "" if language in (UNKNOWN, "code") else language
