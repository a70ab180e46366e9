"""Text, Markdown and source code to documents: lines stay where they are."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from fledge.data.dates import iso_date
from fledge.data.decode import decode
from fledge.index.load.blob import Blob, Budget, Refused, too_large
from fledge.index.load.formats import CODE
from fledge.index.load.pen import Written, settle

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?\n)\1[ \t]*(?:\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"([A-Za-z][\w -]{0,60})\s*[:=]\s*(.*)")
_HEADING = re.compile(r"#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"=+[ \t]*$|-{2,}[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def text_of(blob: Blob, budget: Budget) -> str:
    """The settled text of a blob; refuses bytes that are no text, and too many of them."""
    data = budget.whole(blob)
    text = decode(data, blob.charset)
    if text is None:
        raise Refused("binary", repr(data[:24]))
    limit = budget.config.limits.characters
    if len(text) > limit:
        raise too_large(f"{len(text):,} characters are more", "characters", limit)
    return settle(text)


def read_plain(blob: Blob, budget: Budget) -> Written:
    """Plain text, as it is but for blank lines at its ends."""
    return Written(text=_trimmed(text_of(blob, budget)), kind="plain")


def read_code(blob: Blob, budget: Budget) -> Written:
    """Source code, as it is; its kind names the language."""
    language = CODE[PurePosixPath(blob.name.lower()).suffix]
    metadata = {"language": language}
    return Written(
        text=text_of(blob, budget).rstrip("\n"), kind=f"code:{language}", metadata=metadata
    )


def read_markdown(blob: Blob, budget: Budget) -> Written:
    """Markdown without front matter and without comments, which no reader sees."""
    return markdown(text_of(blob, budget))


def markdown(text: str) -> Written:
    """A document of settled Markdown."""
    fields: dict[str, str] = {}
    if found := _FRONT_MATTER.match(text):
        fields = _fields(found[2])
        text = text[found.end() :]
    text = _trimmed(without_comments(text))
    kept = ("author", "tags", "description")
    metadata: dict[str, Any] = {key: fields.get(key, "") for key in kept}
    return Written(
        text=text,
        kind="markdown",
        title=fields.get("title") or first_heading(text),
        date=iso_date(fields.get("date", "") or fields.get("updated", "")),
        metadata=metadata,
    )


def _trimmed(text: str) -> str:
    return re.sub(r"\A(?:[ \t]*\n)+", "", text).rstrip()


def _fields(lines: str) -> dict[str, str]:
    """``key: value`` and ``key = value`` lines of front matter; nested values are left out."""
    fields = {}
    for line in lines.split("\n"):
        if found := _FIELD.fullmatch(line.strip()) if line[:1].strip() else None:
            fields[found[1].strip().lower()] = found[2].strip().strip("\"'")[:1000]
    return fields


def first_heading(text: str) -> str:
    """The first heading of a Markdown text (``# …`` or underlined), or ""."""
    fence = before = ""
    for line in text.split("\n", 2000)[:2000]:
        line = line[:1000]  # the patterns are quadratic in blanks
        if found := _FENCE.match(line):
            fence = "" if fence and line.strip().startswith(fence) else fence or found[1]
        elif not fence:
            if heading := _HEADING.match(line):
                return heading[1]
            if before.strip() and _UNDERLINE.match(line):
                return before.strip()
        before = line
    return ""


def without_comments(text: str) -> str:
    """Markdown without ``<!-- … -->`` outside fenced code; one that never ends stays.

    The line feeds inside a comment stay too, so that lines keep their numbers.
    """
    if "<!--" not in text:
        return text
    out: list[str] = []
    fence = ""
    position = 0
    while position < len(text):
        line_end = text.find("\n", position) + 1 or len(text)
        line = text[position:line_end]
        if found := _FENCE.match(line):
            fence = "" if fence and line.strip().startswith(fence) else fence or found[1]
        begin = -1 if fence else line.find("<!--")
        end = text.find("-->", position + begin + 4) if begin >= 0 else -1
        if end < 0:
            if begin >= 0:  # it never ends: so does none after it
                return "".join(out) + text[position:]
            out.append(line)
            position = line_end
        else:
            out.append(line[:begin] + "\n" * text.count("\n", position + begin, end))
            position = end + 3
    return "".join(out)
