"""How long a stretch of a text is, in tokens, without a tokenizer or with one."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

Starts = Callable[[str], Sequence[int]]
"""A text in, the offset where each of its tokens begins out, ascending."""

_MARK = "\u0300-\u036f\u200d\ufe00-\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_UNSPACED = (
    "\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff"
)
_FLAG = "\U0001f1e6-\U0001f1ff"
_PLAIN = rf"(?:[^\W\d_{_UNSPACED}]|[\u0900-\u0dff]){{1,6}}|\d{{1,3}}"
_TOKEN = re.compile(rf"(?:{_PLAIN}|[{_FLAG}]{{2}}|\S)(?:[{_MARK}]|(?<=\u200d)\S){{0,16}}")
_JOINS = re.compile(f"[{_MARK}{_FLAG}]")
_UNJOINED = re.compile(rf"{_PLAIN}|\S")
"""The same for texts without marks and flags, in a fraction of the time."""
_ASCII = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|\S")


def cheap_starts(text: str) -> list[int]:
    """Tokens as a tokenizer might cut them: six letters, three digits, a character, a sign.

    A character is never parted from the marks that belong to it.
    """
    token = _ASCII if text.isascii() else _TOKEN if _JOINS.search(text) else _UNJOINED
    return [match.start() for match in token.finditer(text)]


def starts_of(tokenizer: Any) -> Starts:
    """Tokens as a ``tokenizers.Tokenizer`` cuts them, special ones left out."""

    def starts(text: str) -> list[int]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return sorted(start for start, end in encoding.offsets if end > start)

    return starts


class Ruler:
    """Counts tokens of stretches of one text, and says where a stretch must end."""

    def __init__(self, text: str, starts: Starts = cheap_starts) -> None:
        self.text = text
        self._starts = starts(text)

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in [start, end)."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def reach(self, start: int, tokens: int) -> int:
        """The furthest end of a stretch from ``start`` that holds so many tokens."""
        at = bisect_left(self._starts, start) + tokens
        return self._starts[at] if at < len(self._starts) else len(self.text)

    def back(self, end: int, tokens: int) -> int:
        """The earliest start of a stretch to ``end`` that holds at most so many tokens."""
        at = max(0, bisect_left(self._starts, end) - tokens)
        start = self._starts[at] if tokens and at < len(self._starts) else end
        while start < end and not _may_cut(self.text, start):
            start += 1
        return start

    def cut(self, start: int, end: int, tokens: int) -> int:
        """Where to cut [start, end), which is too long: before a word, if one is near.

        Within the limit, but for a character that is itself several tokens.
        """
        furthest = self.reach(start, tokens)
        if furthest >= end:
            return end
        at = furthest
        while at > start and not _may_cut(self.text, at):
            at -= 1
        if at <= start:  # a run of marks: cut where the limit says, but go on
            return max(furthest, start + 1)
        for place in range(at, start + (at - start) // 2, -1):
            if self.text[place - 1].isspace():
                return place
        return at


def _may_cut(text: str, at: int) -> bool:
    """Whether a character, with its marks, ends at ``at``."""
    one = text[at]
    joined = "\u200d" in (one, text[at - 1]) or "\ufe00" <= one <= "\ufe0f"
    toned = "\U0001f3fb" <= one <= "\U0001f3ff"
    return not (joined or toned or unicodedata.combining(one))


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """[start, end) without what is blank at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
