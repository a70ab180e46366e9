"""How alike two texts are: Jaccard similarity of their 5-gram sets."""

from __future__ import annotations

import re

SIZE = 5
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def shingles(text: str) -> frozenset[str]:
    """The 5-grams of a text: of words, a Chinese, Japanese or Korean character being one."""
    tokens = _TOKEN.findall(text.lower())
    last = max(1, len(tokens) - SIZE + 1)
    return frozenset(" ".join(tokens[at : at + SIZE]) for at in range(last))


def jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    """|intersection| / |union|, 1.0 for two empty sets."""
    union = len(one | two)
    return len(one & two) / union if union else 1.0
