"""Which titles stand above each place of a text: Markdown, chapters, definitions in code."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

SEPARATOR = " > "
LONGEST_TITLE = 120
"""Characters of a title that are kept."""
DEEPEST = 8
"""Titles of a path that are kept, the outermost."""

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)[^\n]*$", re.MULTILINE)
_ATX = re.compile(r"^ {0,3}(#{1,6})[ \t]+([^\n]+)$", re.MULTILINE)
_SETEXT = re.compile(r"^([^\n]+)\n {0,3}(=+|-{2,})[ \t]*\r?$", re.MULTILINE)
_NUMBER = "[ 　]?[一二三四五六七八九十百零〇\\d]{1,5}[ 　]?"
_CHAPTER = re.compile(
    rf"^[ \t　]*(?:(?P<one>第{_NUMBER}[编編篇卷])|(?P<two>第{_NUMBER}章)"
    rf"|(?P<three>第{_NUMBER}[节節])"
    r"|(?P<part>(?i:part) [\dIVXLC]+\b)|(?P<chapter>(?i:chapter) [\dIVXLC]+\b)"
    r"|(?P<section>(?i:section) [\dIVXLC]+\b))(?P<rest>[^\n]{0,60})$",
    re.MULTILINE,
)
_RANKS = {"one": 1, "two": 2, "three": 3, "part": 1, "chapter": 2, "section": 3}


@dataclass(frozen=True)
class Title:
    """A heading: where its line is, its rank (1 is the highest) and what it says.

    One without a name ends what those of its rank and below hold.
    """

    start: int
    end: int
    rank: int
    name: str


class Outline:
    """The titles of a text, in order, and the path that leads to each of its places."""

    def __init__(self, text: str, titles: list[Title]) -> None:
        self._text, self.titles = text, titles
        self._starts = [title.start for title in titles]
        self._paths: list[tuple[str, ...]] = []
        above: list[Title] = []
        for title in titles:
            while above and above[-1].rank >= title.rank:
                above.pop()
            above.append(title)
            self._paths.append(tuple(one.name for one in above[:DEEPEST] if one.name))

    def heading(self, start: int, end: int) -> str:
        """The titles that stand above all of [start, end), outermost first."""
        inside = range(max(0, bisect_right(self._starts, start) - 1), len(self.titles))
        paths: list[tuple[str, ...]] = []
        if not self.titles or start < self._starts[0]:
            return ""
        for number in inside:
            if self._starts[number] >= end:
                break
            below = self._starts[number + 1] if number + 1 < len(self._starts) else end
            body = self._text[max(start, self.titles[number].end) : min(end, below)]
            if body.strip():
                paths.append(self._paths[number])
        if not paths:  # nothing but titles
            paths = [self._paths[bisect_right(self._starts, end - 1) - 1]]
        return SEPARATOR.join(_common(paths))


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(paths), max(paths)
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first[:same]


def fences(text: str) -> list[tuple[int, int]]:
    """Spans of the fenced code of a Markdown text; one that is not closed runs to the end."""
    found: list[tuple[int, int]] = []
    opened: tuple[int, str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match.start(), match[1]
        elif match[1].startswith(opened[1]) and match[0].strip() == match[1]:
            found.append((opened[0], match.end()))
            opened = None
    return found if opened is None else [*found, (opened[0], len(text))]


def markdown_titles(text: str) -> list[Title]:
    """Headings with ``#`` or underlined, but for those in fenced code."""
    titles = [
        Title(match.start(), match.end(), len(match[1]), _name(match[2].rstrip().rstrip("#")))
        for match in _ATX.finditer(text)
        if match[2].strip()
    ]
    titles += _underlined(text)
    code = fences(text)
    begins = [begin for begin, _ in code]
    outside = (
        title
        for title in titles
        if (at := bisect_right(begins, title.start)) == 0 or title.start >= code[at - 1][1]
    )
    return sorted(outside, key=lambda title: title.start)


def _underlined(text: str) -> Iterator[Title]:
    for match in _SETEXT.finditer(text):
        if _may_be_underlined(text, match):
            rank = 1 if match[2][0] == "=" else 2
            yield Title(match.start(), match.end(), rank, _name(match[1]))


def _may_be_underlined(text: str, match: re.Match[str]) -> bool:
    """A line by itself that is no list, table, quotation or rule."""
    before = text[max(0, match.start() - 4) : match.start()].replace("\r", "")
    alone = match.start() == 0 or before.endswith("\n\n")
    return alone and bool(match[1].strip()) and match[1].strip()[0] not in "-=|#>*+"


def plain_titles(text: str) -> list[Title]:
    """Lines such as "第三章 總則" or "Chapter 3: Loads" that are no sentence; underlined ones."""
    titles = [*_chapters(text), *_underlined(text)]
    return sorted(titles, key=lambda title: (title.start, title.rank))


def _chapters(text: str) -> Iterator[Title]:
    for match in _CHAPTER.finditer(text):
        if match["rest"].rstrip()[-1:] not in ("。", "；", "，", ".", ",", ";", "：", ":"):
            rank = next(rank for kind, rank in _RANKS.items() if match[kind])
            yield Title(match.start(), match.end(), rank, _name(match[0]))


def _name(line: str) -> str:
    return " ".join(line.split())[:LONGEST_TITLE]
