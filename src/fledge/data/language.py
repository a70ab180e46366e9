"""The language of a text: "en", "zh-Hans", "zh-Hant", ISO 639-1, "code", or "und"."""

from __future__ import annotations

import re
from functools import cache
from typing import Protocol

UNKNOWN = "und"

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile("[\u3040-\u30ff]")
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)
_CODE_LINE = re.compile(
    r"[{}]\s*$|[)\]]\s*;\s*$|=[^;=]+;\s*$|^\s*\w+(?:\.\w+)*;\s*$"
    r"|^\s*(?:#include|import \w|from \w+ import|def \w+\(|class \w+[:({]|return\b|"
    r"if \(|for \(|while \(|public |private |static |function\b|var \w+ ?=|let \w+ ?=|"
    r"const \w+ ?=|</?\w+[^>]*>\s*$|\w+\s*\(.*\)\s*[;{:]?\s*$|[\w.\[\]]+ ?[-+*/]?= ?\S+\s*$|"
    r"elif |else:|try:|except |//|/\*|\*/|@\w+)"
)
_ENGLISH = frozenset(
    ("the", "of", "and", "is", "was", "are", "which", "with", "from", "that", "has", "this", "by")
)
SAMPLE = 8_000
"""Characters looked at; enough for any detector."""


class LanguageDetector(Protocol):
    """Finds the language of a text of several words."""

    def detect(self, text: str) -> tuple[str, float]:
        """(language or "und", share of the text in it)."""


class Cld2:
    """Compact Language Detector 2 (model in the wheel), with our own split of Chinese."""

    def detect(self, text: str) -> tuple[str, float]:
        """(language or "und", share of the text in it)."""
        import pycld2

        cleaned = _UNREADABLE.sub(" ", text[:SAMPLE])
        try:
            _, _, details = pycld2.detect(cleaned, isPlainText=True, bestEffort=True)
        except pycld2.error:
            return UNKNOWN, 0.0
        name, code, percent, _ = details[0]
        if code != "en" and _english_share(cleaned) > 0.15:
            return "en", max(percent, details[1][2]) / 100  # English sentences, foreign names
        if code == "ja" and 20 * len(_KANA.findall(cleaned)) < len(_HAN.findall(cleaned)):
            code = "zh-Hant"  # Chinese characters without kana
        if code in ("zh", "zh-Hant"):
            return chinese_script(cleaned, default="zh-Hant" if code == "zh-Hant" else "zh-Hans"), (
                percent / 100
            )
        return (UNKNOWN, 0.0) if name == "Unknown" else (str(code), percent / 100)


def _english_share(text: str) -> float:
    """Share of the words that are English function words no other language shares."""
    words = text.lower().split()
    return sum(word in _ENGLISH for word in words) / len(words) if len(words) >= 12 else 0.0


def language_of(text: str, detector: LanguageDetector | None = None) -> tuple[str, float]:
    """(language, share of the text in it); "code" for source code and markup."""
    if code_share(text) > 0.5:
        return "code", code_share(text)
    return (detector or Cld2()).detect(text)


def code_share(text: str) -> float:
    """Share of the non-empty lines that look like source code or markup."""
    lines = [line for line in text[:SAMPLE].split("\n") if line.strip()]
    return sum(1 for line in lines if _CODE_LINE.search(line)) / len(lines) if lines else 0.0


def chinese_script(text: str, default: str) -> str:
    """ "zh-Hans" or "zh-Hant" by the characters that only one script has; ``default`` on a tie.

    GB 2312 holds the simplified characters, Big5 the traditional ones; what both hold is shared.
    """
    scripts = [_script(character) for character in _HAN.findall(text[:SAMPLE])]
    simplified, traditional = scripts.count(1), scripts.count(2)
    if simplified == traditional:
        return default
    return "zh-Hans" if simplified > traditional else "zh-Hant"


@cache
def _script(character: str) -> int:
    """1: simplified only, 2: traditional only, 0: shared or rare."""
    simplified, traditional = _has(character, "gb2312"), _has(character, "big5")
    if simplified == traditional:
        return 0
    return 1 if simplified else 2


def _has(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
