"""An answer in, whether it declines to answer: by marker phrases, per language."""

from __future__ import annotations

from collections.abc import Iterable

from fledge.metrics.answers import normalise, occurrences

MARKERS: dict[str, tuple[str, ...]] = {
    "en": (
        "don't know", "do not know", "not know", "no information", "no record", "not sure",
        "can't answer", "cannot answer", "can not answer", "unable to answer", "don't have",
        "do not have", "documents do not answer", "documents say nothing", "not in my documents",
        "no idea", "would rather not guess", "not in your documents",
    ),
    "zh-Hans": (
        "不知道", "不清楚", "不了解", "我没有", "资料里没有", "资料中没有", "没有相关", "无法回答",
        "不能回答", "无法确定", "没有信息", "没有记录", "文档中没有答案",
    ),
    "zh-Hant": (
        "不知道", "不清楚", "不瞭解", "我沒有", "資料裡沒有", "資料中沒有", "沒有相關", "無法回答",
        "不能回答", "無法確定", "沒有資訊", "沒有紀錄", "沒有記錄",
        "文件中沒有答案",
    ),
}  # fmt: skip
"""Phrases that only stand in declining answers.  A set may bring its own in its metadata."""


def declines(answer: str, language: str = "", markers: Iterable[str] = ()) -> bool:
    """Whether ``answer`` holds a marker of ``language`` ("" or unknown: of any language).

    ``markers`` are further phrases.  A model may decline in another language than it was asked
    in, so English ones always count.
    """
    known = MARKERS.get(language)
    phrases = [*MARKERS["en"], *known] if known else [m for own in MARKERS.values() for m in own]
    said = normalise(answer)
    return any(occurrences(said, normalise(phrase)) for phrase in (*phrases, *markers))
