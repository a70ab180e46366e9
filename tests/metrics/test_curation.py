"""Scores of curation: worked by hand, and bounds that always hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.metrics.curation import (
    drop_scores,
    duplicate_scores,
    mean,
    pii_scores,
    precision_recall,
    token_f1,
    tokens,
)


def test_tokens_are_words_and_single_cjk_characters() -> None:
    assert tokens("It's 大桥, 1957年 café") == ["it", "s", "大", "桥", "1957", "年", "café"]


def test_token_f1_by_hand() -> None:
    assert token_f1("a b c d", "a b") == pytest.approx(2 * 2 / 6)
    assert token_f1("a a a", "a") == pytest.approx(2 * 1 / 4)
    assert token_f1("", "") == 1
    assert token_f1("x", "") == 0


@given(st.text(), st.text())
def test_token_f1_is_symmetric_and_bounded(left: str, right: str) -> None:
    value = token_f1(left, right)
    assert 0 <= value <= 1
    assert value == token_f1(right, left)
    assert token_f1(left, left) == 1


def test_scores_over_nothing_are_none() -> None:
    score = precision_recall(0, 0, 0)
    assert score.precision is None
    assert score.recall is None
    assert mean([]) is None


def test_pii_scores_by_hand() -> None:
    score = pii_scores(
        found=[["+1 415-555-0132", "1957"], ["bob@x.org"], []],
        planted=[["+1 (415) 555 0132"], ["bob@x.org", "4111111111111111"], ["a@b.org"]],
        lookalikes=[["1957"], [], []],
    )
    assert (score.correct, score.selected, score.relevant) == (2, 3, 4)


def test_duplicates_by_hand() -> None:
    groups = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c": None, "d": None}
    score = duplicate_scores(groups, {"a2", "b1", "b2", "c"}, set(groups))
    # three redundant pages; a2 and one of b rightly, the other b and c wrongly dropped
    assert (score.correct, score.selected, score.relevant) == (2, 4, 3)
    one_left = duplicate_scores(groups, {"a1", "a2"}, {"a1", "a2", "a3", "c"})
    assert (one_left.correct, one_left.selected, one_left.relevant) == (2, 2, 2)
    gone = duplicate_scores(groups, set(), {"a1", "b1", "c"})
    assert gone.recall is None


def test_drops_by_hand() -> None:
    expected = {"1": "spam", "2": "spam", "3": None, "4": "unsafe"}
    actual = {"1": "spam", "2": None, "3": "spam", "4": "unsafe"}
    scores = drop_scores(expected, actual)
    assert (scores["spam"].precision, scores["spam"].recall) == (0.5, 0.5)
    assert (scores["unsafe"].precision, scores["unsafe"].recall) == (1.0, 1.0)
