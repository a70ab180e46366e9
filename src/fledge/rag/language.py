"""A text in, the language in which it is to be answered out: "zh" or "en", by its script."""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "zh"]

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]+")
WORD = 4.0
"""Latin letters that say as much as one Chinese character."""


def prompt_language(text: str) -> Language:
    """ "zh" when Chinese characters carry more of the text than words of letters, else "en".

    "《ALPHA》的导演是谁" is Chinese: a name in Latin letters does not change the question.
    """
    han = len(_HAN.findall(text))
    letters = sum(len(_HAN.sub("", word)) for word in _LETTER.findall(text))
    return "zh" if han and han >= letters / WORD else "en"


def has_han(text: str) -> bool:
    """Whether there is a Chinese character in it."""
    return _HAN.search(text) is not None
