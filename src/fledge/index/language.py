"""A question or passage in, its language out: by its script, else by the words."""

from __future__ import annotations

import re

_SCRIPTS = {
    "han": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7a3]"),
}
_LETTER = re.compile(r"[^\W\d_]")
WORD = 4
"""Letters of an alphabet that say as much as one Chinese character."""
ENOUGH = 20
"""Letters from which on a detector of languages may be asked; below, Latin ones are English."""


def language_of(text: str) -> str:
    """ "en", "zh-Hans", "zh-Hant" or another tag as ``fledge.data.language`` gives it; "und".

    Chinese when its characters say more than what stands between them: "ALPHA 的导演是谁" is.
    """
    counts = {name: len(script.findall(text)) for name, script in _SCRIPTS.items()}
    east = sum(counts.values())
    others = len(_LETTER.findall(text)) - east
    if east * WORD > others:
        if counts["ko"] > counts["han"] + counts["ja"]:
            return "ko"
        if counts["ja"] * 20 > counts["han"]:
            return "ja"
        from fledge.data.language import chinese_script

        return chinese_script(text, default="zh-Hans")
    if others == 0:
        return "und"
    return _by_words(text) if others >= ENOUGH or not text.isascii() else "en"


def _by_words(text: str) -> str:
    import pycld2

    from fledge.data.language import SAMPLE

    readable = "".join(one if one.isprintable() else " " for one in text[:SAMPLE])
    try:
        reliable, _, details = pycld2.detect(readable, isPlainText=True, bestEffort=True)
    except pycld2.error:
        return "en" if text.isascii() else "und"
    code = str(details[0][1])
    if reliable and code != "un":
        return code
    return "en" if text.isascii() else "und"
