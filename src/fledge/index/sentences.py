"""A text in, the spans of its English and Chinese sentences out."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_CLOSERS = "\"'”’」』）)】］\\]》〉〕}｣＂＇*_"
_AFTER = rf"[{_CLOSERS}]*(?:\[\d{{1,3}}\])*"
_ENDING = re.compile(
    rf"(?P<wide>[。！？；｡︒．](?:[。！？｡．!?…~～]*){_AFTER})"
    rf"|(?P<dots>(?:…+|\.{{3,}}){_AFTER})"
    rf"|(?P<marks>[!?][!?。！？]*{_AFTER})"
    rf"|(?P<stop>\.{_AFTER})"
)
_NEVER_TEXT = """
    mr mrs ms dr prof rev hon gen col capt lt sgt st mt ft messrs mme mlle vs e.g i.e cf viz
    al eq eqs fig figs no nos vol vols pp p ch sec art ref refs approx ca dept univ ed eds tab
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
"""
_NEVER = frozenset(_NEVER_TEXT.split())
"""Abbreviations that something always follows."""
_STARTERS_TEXT = """
    a an the this that these those it its he she they we you i his her their our my in on at
    for from with by as but and or so if when while after before since although however there
    here what who how why where which no not all some many most one two
"""
_STARTERS = frozenset(_STARTERS_TEXT.split())
"""Words that begin a sentence when they are capitalised after what may be an abbreviation."""
_WORD_BEFORE = re.compile(r"[^\W\d_](?:[^\W\d_]|\.(?=[^\W\d_]))*$")
_LINE_NUMBER = re.compile(r"[ \t]*(?:[0-9]{1,3}|[A-Za-z]|[ivxIVX]{1,4})$")
_MARKER = re.compile(
    r"[ \t]*(?:[-*+•·‣▪●○–—][ \t]|\d{1,3}[.)、．][ \t]?(?=\D)|[（(]?[a-zA-Zivx\d]{1,3}[)）][ \t]?"
    r"|[一二三四五六七八九十百]{1,3}[、．.]|[（(][一二三四五六七八九十百]{1,3}[）)]"
    r"|第[一二三四五六七八九十百零〇\d]{1,5}[章节節条條款编編篇]"
    r"|\#{1,6}[ \t]|>|\||```|~~~|={3,}|-{3,}|\[\^?\w+\]:)"
)
_ALONE = re.compile(r"[ \t]*(?:\#{1,6}[ \t]|\||```|~~~|={3,}|-{3,})")
_LINE = re.compile("[^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+")
NARROW = 30
"""Columns: lines of a paragraph that is no wider were not wrapped but written so."""


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans [start, end) of the sentences of ``text``, in order.

    They hold all that is not blank, begin and end with something that is not, and do not overlap.
    Headings, list items, table rows and other lines that were not merely wrapped end a sentence.
    """
    cuts = sorted({0, len(text), *_line_cuts(text), *_mark_cuts(text)})
    spans = (_trimmed(text, start, end) for start, end in pairwise(cuts))
    return [span for span in spans if span[0] < span[1]]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _mark_cuts(text: str) -> list[int]:
    """Where a sentence ends by its punctuation."""
    return [match.end() for match in _ENDING.finditer(text) if _ends(text, match)]


def _ends(text: str, match: re.Match[str]) -> bool:
    kind, end = match.lastgroup, match.end()
    after = text[end : end + 1]
    if kind == "wide":
        return not (match[0][0] == "．" and after.isdigit())
    if after and not after.isspace():
        return kind == "marks" and not after.isascii() and not match[0].startswith("?=")
    following = text[end : end + 40].lstrip(" \t")
    if kind in ("dots", "marks"):
        return not following[:1].islower()
    return _stop_ends(text, match.start(), following)


def _stop_ends(text: str, at: int, following: str) -> bool:
    """Whether the full stop at ``at`` ends a sentence and is not merely part of a word."""
    begun = text.rfind("\n", max(0, at - 9), at) + 1
    if (begun or at < 9) and _LINE_NUMBER.fullmatch(text, begun, at):
        return False  # "3. " before an item or a heading
    if following[:1].islower() or following[:1] in (",", ";", ":", ")", "-"):
        return False
    before = _WORD_BEFORE.search(text, max(0, at - 20), at)
    if before is None or following[:1] in ("", "\n", "\r"):
        return True
    word = before[0].lower()
    if word in _NEVER:
        # "No. 5" and "Mar. 5", but "No. I won't."; "Mr." and "Fig." before anything.
        return word in ("no", "art", "mar", "sec", "ed") and not following[:1].isdigit()
    if before[0].islower() and len(word) == 1:
        return not following[:1].isdigit()  # "1.5 m. Then", but "b. 1950"
    if len(word) == 1 or "." in word or word in ("etc", "inc", "ltd", "co", "corp", "jr", "sr"):
        first = re.match(r"[^\W\d_]+", following)
        known = first is not None and first[0].lower() in _STARTERS
        return known or (word == "etc" and following[:1].isupper())
    return True


def _line_cuts(text: str) -> list[int]:
    """Where a line ends that was not merely wrapped."""
    lines = [match.span() for match in _LINE.finditer(text)]
    lines = [span for span in lines if not text[span[0] : span[1]].isspace()]
    cuts: list[int] = []
    for paragraph in _paragraphs(text, lines):
        if len(paragraph) == 1:
            cuts.append(paragraph[0][1])
            continue
        widest = max(_width(text[start:end].strip()) for start, end in paragraph)
        for one, other in pairwise(paragraph):
            if _broken(text[slice(*one)], text[slice(*other)], widest):
                cuts.append(other[0])
        cuts.append(paragraph[-1][1])
    return cuts


def _paragraphs(text: str, lines: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Lines with no blank one between them."""
    found: list[list[tuple[int, int]]] = []
    for line in lines:
        between = text[found[-1][-1][1] : line[0]] if found else ""
        if found and between in ("\n", "\r\n", "\r"):
            found[-1].append(line)
        else:
            found.append([line])
    return found


def _broken(line: str, following: str, widest: int) -> bool:
    """Whether two lines of a paragraph are two sentences; ``widest`` line of it, in columns."""
    if _ALONE.match(line) or _MARKER.match(following) or widest <= NARROW:
        return True
    word = following.split(maxsplit=1)[0]
    first = _width(word) if word[0].isascii() else 2
    return _width(line.strip()) + 1 + first < 0.8 * widest


def _width(text: str) -> int:
    """Columns: two for a full-width character."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)
