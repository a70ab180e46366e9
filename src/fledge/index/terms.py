"""A text in, the terms it is found by out: English stems, numbers, identifiers, Chinese n-grams.

Every index and every query goes through here, so a change of the rules raises ``VERSION``; an
index made with another version must be built again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from threading import local
from typing import Any

VERSION = 1
"""Of the rules below.  The stems are those of Snowball 3, the folding is OpenCC 1.4's."""

_STOP_WORDS_TEXT = """
    a about an and any are as at be been being but by can could did do does doing during each
    for from had has have having he her his how i if in into is it its me more most my no nor not
    of on or our she should so some such than that the their them then there these they this those
    to was we were what when where which while who whom whose why with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
"""Words that tell how a sentence is built, not what it is about."""

MAX_LENGTH = 64
"""Characters of the longest term; a longer run is no word, and its rest is dropped."""

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = _HAN + (
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\uac00-\ud7a3"  # kana, Hangul
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
)
_LETTER = rf"(?:[^\W{_UNSPACED}]|[\u0900-\u0dff])"  # digits, "_" and marks of Indic scripts, too
_WORDS = (
    r"\b(?:[A-Za-z]\.){2,}"
    r"|LETTER+(?:(?:[./:&@#+'’\-]|(?<=\d),(?=\d))LETTER+)*(?:\+\+|\#)?"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]+|" + _WORDS.replace("LETTER", _LETTER))
_ASCII_TOKEN = re.compile(_WORDS.replace("LETTER", r"\w"), re.ASCII)
"""The same for texts without other characters, in half the time."""
_RUN = re.compile(f"[{_UNSPACED}]")
_FIRST_UNSPACED = min(_UNSPACED.replace("-", ""))  # the hyphens mark ranges
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_PIECE = re.compile(r"\d+(?:[.,]\d+)*|(?:[^\W\d_]|[\u0900-\u0dff])+(?:['’][^\W\d_]+)*")
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]")
_IS_CAMEL = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]{2}")
_SUFFIX = re.compile(r"'(?:s|re|ve|ll|d|m)?$")
_MARKS = re.compile("[\u0300-\u036f]")
_HERE = local()


def terms(text: str) -> list[str]:
    """The terms of ``text``, in its order, as often as they occur.

    Case, full-width forms and accents do not count, and Traditional characters are read as
    Simplified ones.  Scripts without spaces give each character and each pair of neighbours;
    an identifier, or a number joined with letters or signs, gives itself and its parts.
    """
    if text.isascii():
        tokens = _ASCII_TOKEN.findall(text)
    else:  # full-width letters, ligatures and the like in their plain form
        tokens = _TOKEN.findall(unicodedata.normalize("NFKC", text))
    return list(chain.from_iterable(map(_of_token, tokens)))


def _of_token(token: str) -> Sequence[str]:
    """The terms of a run of one script, or of letters, digits and the signs between them."""
    return _of_word(token) if token[0] < _FIRST_UNSPACED else _of_run(token)


def _of_run(token: str) -> Sequence[str]:
    if not _RUN.match(token):
        return _of_word(token)
    run = token.translate(_folding())
    return [*run, *(run[at : at + 2] for at in range(len(run) - 1))]


@lru_cache(maxsize=200_000)
def _of_word(word: str) -> tuple[str, ...]:
    """The terms of letters and digits and the signs between them, or of an acronym's points."""
    if word.endswith("."):
        return (word.replace(".", "").lower()[:MAX_LENGTH],)
    if not word.isascii():
        word = _MARKS.sub("", unicodedata.normalize("NFKD", word))
    parts = tuple(term for piece in _PIECE.findall(word) for term in _of_piece(piece))
    if _is_plain(word):
        return parts
    whole = word.lower()[:MAX_LENGTH]
    return parts if parts == (whole,) else (whole, *parts)


def _is_plain(word: str) -> bool:
    """Whether the parts say it all: words joined by hyphens, a number."""
    if _NUMBER.fullmatch(word):
        return True
    letters = re.sub("[-'’]", "", word)
    return letters.isalpha() and not _IS_CAMEL.search(word)


def _of_piece(piece: str) -> list[str]:
    """Terms of a number, or of a word in which capitals may begin others."""
    if piece[0].isdigit():
        return [piece.replace(",", "")[:MAX_LENGTH]]
    words = _HUMP.findall(piece) if _IS_CAMEL.search(piece) else [piece]
    return [stem for word in words if (stem := _stem(word))]


def _stem(word: str) -> str:
    """The stem in lower case; "" for a stop word, unless capitals make a name of it: WHO, IT."""
    plain = _SUFFIX.sub("", word.replace("’", "'").lower())
    if plain in STOP_WORDS or plain.endswith("n't"):
        return plain if len(word) > 1 and word.isupper() else ""
    return str(_stemmer().stemWord(plain))[:MAX_LENGTH] if plain.isascii() else plain[:MAX_LENGTH]


def _stemmer() -> Any:
    """Snowball's "english" (Porter 2); one a thread, since it keeps its work in itself."""
    if not hasattr(_HERE, "stemmer"):
        import Stemmer

        _HERE.stemmer = Stemmer.Stemmer("english")
    return _HERE.stemmer


@cache
def _folding() -> dict[int, str]:
    """Code point of a traditional character -> the simplified one, by itself, without context."""
    import opencc

    blocks = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0x20000, 0x2A6E0))
    characters = [chr(point) for block in blocks for point in block]
    folded = opencc.OpenCC("t2s").convert("\n".join(characters)).split("\n")
    return {
        ord(one): other
        for one, other in zip(characters, folded, strict=True)
        if one != other and len(other) == 1
    }
