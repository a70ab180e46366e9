"""Characters of a page in, lines joined to paragraphs out, and the box of every word.

A PDF knows lines only.  Sentences and Chinese words run over their ends, so lines that fill their
column are joined to the next: with a blank, without one between Chinese characters, and without
the hyphen that only broke a word.  Short lines (tables, verses, lists, code) stay lines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fledge.index.load.pen import settle

Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top in points."""

_HAN = re.compile(
    "[\u1100-\u11ff\u2e80-\u30ff\u3100-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
)
"""Characters as wide as high: Chinese, Japanese, Korean."""

_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_PRESENTATION = re.compile("[\ufb00-\ufb06\u2e80-\u2fdf]+")
"""Ligatures and radicals that stand for letters and characters."""

_ITEM = re.compile(
    r"[-•‣▪●○*–]$|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]$"
    r"|[（(]?[一二三四五六七八九十]{1,3}[、.)）]"
)
"""How the first word of an item of a list looks."""

_TERMINAL = (".", "!", "?", ":", "。", "！", "？", "：", ".”", "。”", "。」")
_SOFT = ("\x02", "\ufffe")
"""What PDFium gives for a hyphen at the end of a line; it gives no line break after it."""

_HYPHENS = ("-", "\u00ad", "\u2010")

RAGGED = 0.35
"""Share of a column's width that a line may leave free at its end and still run on."""

CLOSE = 0.15
"""The same for a line whose sentence goes on in small letters."""

LEADING = 0.6
"""Gap between lines, in line heights, from which a paragraph ends."""


class Char(NamedTuple):
    """A character; ``box`` None: the reader added it."""

    text: str
    box: Rectangle | None
    hyphen: bool = False


class Word(NamedTuple):
    """``text[start:end]`` of a page and where it is drawn."""

    start: int
    end: int
    box: Rectangle


@dataclass
class _Line:
    words: list[tuple[str, Rectangle, bool]] = field(default_factory=list)
    """(text, box, whether a blank stands before it)"""
    hyphen: bool = False
    """It ends with a hyphen that breaks a word."""

    def measure(self) -> None:
        boxes = [box for _, box, _ in self.words]
        self.left = min(box[0] for box in boxes)
        self.bottom = min(box[1] for box in boxes)
        self.right = max(box[2] for box in boxes)
        self.top = max(box[3] for box in boxes)
        self.height = max(self.top - self.bottom, 0.1)


def set_page(characters: Sequence[Char]) -> tuple[str, list[Word]]:
    """(text of a page, its words in order); the text neither begins nor ends with a blank."""
    lines = _lines(characters)
    full = _full_lines(lines)
    parts: list[str] = []
    words: list[Word] = []
    length = 0
    for number, line in enumerate(lines):
        if number:
            before = lines[number - 1]
            joint = _joint(before, line, full=full[number - 1])
            if joint == "" and before.hyphen:
                length -= _drop_hyphen(parts, words)
            parts.append(joint)
            length += len(joint)
        for place, (text, box, blank) in enumerate(line.words):
            if blank and place:
                parts.append(" ")
                length += 1
            words.append(Word(length, length + len(text), box))
            parts.append(text)
            length += len(text)
    return "".join(parts), [word for word in words if word.end > word.start]


def _lines(characters: Sequence[Char]) -> list[_Line]:
    lines = [_Line()]
    run: list[Char] = []
    blank = False
    for number, char in enumerate(characters):
        if char.text in _SOFT:
            run.append(char._replace(text="-", hyphen=True))
            if _returns(char, characters[number + 1 : number + 3]):
                _close(run, lines[-1], blank)
                run, blank = [], False
                lines.append(_Line())
        elif char.text in ("\r", "\n", ""):
            _close(run, lines[-1], blank)
            run, blank = [], False
            if char.text == "\n" and lines[-1].words:
                lines.append(_Line())
        elif char.text.isspace() or char.box is None:
            if run or not blank:
                _close(run, lines[-1], blank)
                run, blank = [], True
        else:
            if run and _breaks(run[-1], char):
                _close(run, lines[-1], blank)
                run, blank = [], False
            run.append(char)
    _close(run, lines[-1], blank)
    lines = [line for line in lines if line.words]
    for line in lines:
        line.measure()
    return lines


def _returns(char: Char, following: Sequence[Char]) -> bool:
    """Whether what follows stands on another line."""
    box = next((other.box for other in following if other.box is not None), None)
    return char.box is None or box is None or box[0] < char.box[0]


def _breaks(last: Char, char: Char) -> bool:
    """Whether a new box begins: another script, so that all of a box is equally wide; a jump."""
    assert last.box is not None
    assert char.box is not None
    size = max(char.box[3] - char.box[1], char.box[2] - char.box[0], 0.1)  # text may run upwards
    return (
        bool(_HAN.match(last.text)) != bool(_HAN.match(char.text))
        or abs(char.box[1] - last.box[1]) > 1.1 * size
        or abs(char.box[0] - last.box[2]) > 4 * size
    )


def _close(run: list[Char], line: _Line, blank: bool) -> None:
    """Put a run of characters into the line as a word."""
    if not run:
        return
    text = _word("".join(char.text for char in run))
    boxes = [char.box for char in run if char.box is not None]
    if not text or not boxes:
        return
    line.words.append(
        (
            text,
            (
                min(box[0] for box in boxes),
                min(box[1] for box in boxes),
                max(box[2] for box in boxes),
                max(box[3] for box in boxes),
            ),
            blank,
        )
    )
    line.hyphen = run[-1].hyphen or text[-1] in _HYPHENS[1:]


def _word(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _PRESENTATION.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return "".join(settle(text).split())


def _full_lines(lines: Sequence[_Line]) -> list[bool]:
    """For each line, whether it ends where it does because the next word did not fit.

    Lines that stand one below the other are a column; where fewer than half of them are full they
    are a list, whose longest line only seems to be full.
    """
    full: list[bool] = []
    begin = 0
    for number in range(1, len(lines) + 1):
        if number < len(lines):
            line = lines[number]
            near = abs(line.left - lines[begin].left) <= 4 * line.height
            if near and _step(lines[number - 1], line) == "next":
                continue
        column = lines[begin:number]
        end = max(line.right for line in column)
        following = [*column[1:], lines[number] if number < len(lines) else None]
        found = [_is_full(line, after, end) for line, after in zip(column, following, strict=True)]
        runs = 2 * sum(found[:-1]) >= len(column) - 1
        full += [one and runs for one in found]
        begin = number
    return full


def _step(before: _Line, line: _Line) -> Literal["next", "apart", "elsewhere"]:
    """How a line stands to the one before: below it, further below or of another size, or not."""
    height = max(before.height, line.height)
    gap = before.bottom - line.top
    if gap < -0.8 * height:
        return "elsewhere"  # the next column
    resized = abs(before.height - line.height) > 0.15 * height
    return "apart" if gap > LEADING * height or resized else "next"


def _joint(before: _Line, line: _Line, *, full: bool) -> str:
    """What stands between two lines: "\\n\\n", "\\n", " " or nothing."""
    step = _step(before, line)
    if step == "elsewhere":
        goes_on = full and not before.words[-1][0].endswith(_TERMINAL)
        same = abs(before.height - line.height) <= 0.15 * before.height
        return _seam(before, line) if goes_on and same else "\n\n"
    if step == "apart":
        return "\n\n"
    height = max(before.height, line.height)
    deepest = 3 * height if _ITEM.match(before.words[0][0]) else 0.5 * height
    aligned = -4 * height <= line.left - before.left <= deepest
    if full and aligned and not _ITEM.match(line.words[0][0]):
        return _seam(before, line)
    return "\n"


def _is_full(line: _Line, after: _Line | None, column_end: float) -> bool:
    if after is None or line.hyphen:
        return line.hyphen
    if _is_entry(line):
        return False
    text, box, _ = after.words[0]
    wide = (box[2] - box[0]) / (len(text) if _HAN.match(text) else 1)
    blank = 0.2 * line.height
    free, width = column_end - line.right, column_end - line.left
    goes_on = text[0].islower() and not line.words[-1][0].endswith(_TERMINAL)
    return (free <= RAGGED * width and free < wide + blank) or (goes_on and free <= CLOSE * width)


def _is_entry(line: _Line) -> bool:
    """Whether a line is one of a table of contents: dots lead to a number."""
    return len(line.words) > 2 and line.words[-2][0].strip(".…") == ""


def _seam(before: _Line, line: _Line) -> str:
    last, first = before.words[-1][0], line.words[0][0]
    if before.hyphen and first[0].islower():
        return ""
    unspaced = _HAN.match(last[-1]) and _HAN.match(first[0]) and not _HANGUL.match(first[0])
    return "" if unspaced else " "


def _drop_hyphen(parts: list[str], words: list[Word]) -> int:
    """Take the hyphen off the last word; returns how many characters went."""
    if not parts or parts[-1][-1:] not in _HYPHENS:
        return 0
    parts[-1] = parts[-1][:-1]
    words[-1] = words[-1]._replace(end=words[-1].end - 1)
    return 1
