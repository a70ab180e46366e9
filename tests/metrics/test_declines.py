"""Declining answers are told from answers, in three languages."""

from __future__ import annotations

import pytest

from fledge.metrics.declines import declines


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("I don't know that about the Elm Bridge.", "en"),
        ("Sorry — I don’t know.", "en"),
        ("My documents say nothing about this for the Elm Bridge.", "en"),
        ("I CANNOT ANSWER that.", "en"),
        ("抱歉，我不知道。", "zh-Hans"),
        ("我的资料里没有榆树桥的这项内容。", "zh-Hans"),
        ("我的資料無法回答這個問題。", "zh-Hant"),
        ("I don't know.", "zh-Hant"),
        ("無法確定", ""),
        ("The answer is not in your documents.", "en"),
        ("您的文档中没有答案。", "zh-Hans"),
        ("您的文件中沒有答案。", "zh-Hant"),
        ("我不知道", "fr"),
    ],
)
def test_declines(answer: str, language: str) -> None:
    assert declines(answer, language)


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("It opened in 1937.", "en"),
        ("The Unknown River", "en"),
        ("You know, it is in Paris.", "en"),
        ("", "en"),
        ("它位于巴黎。", "zh-Hans"),
        ("它是一座知名的橋。", "zh-Hant"),
    ],
)
def test_answers_are_no_declines(answer: str, language: str) -> None:
    assert not declines(answer, language)


def test_a_set_may_bring_its_own_markers() -> None:
    assert not declines("Pass.", "en")
    assert declines("Pass.", "en", ["pass"])
    assert not declines("The Brenner Passage", "en", ["pass"])
