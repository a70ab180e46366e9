"""Ranking measures: worked examples, bounds for every input, intervals that know clusters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.metrics.ranking import (
    Ranking,
    figure,
    hit_at,
    ndcg_at,
    ranking_figures,
    recall_at,
    reciprocal_rank,
)


def test_worked_example() -> None:
    ranked = ["d1", "d2", "d3", "d4", "d5", "d6"]
    gains = {"d1": 3.0, "d2": 2.0, "d3": 3.0, "d5": 1.0, "d6": 2.0}
    # DCG and ideal DCG computed by hand: 3/1 + 2/1.585 + 3/2 + 0 + 1/2.585 + 2/2.807
    dcg = 3 + 2 / math.log2(3) + 3 / 2 + 1 / math.log2(6) + 2 / math.log2(7)
    ideal = 3 + 3 / math.log2(3) + 2 / 2 + 2 / math.log2(5) + 1 / math.log2(6)
    assert ndcg_at(6, ranked, gains) == pytest.approx(dcg / ideal)
    assert dcg == pytest.approx(6.861, abs=5e-4)


def test_hits_and_ranks() -> None:
    ranked = ["a", "b", "c"]
    assert [hit_at(k, ranked, {"b"}) for k in (1, 2, 3)] == [0, 1, 1]
    assert reciprocal_rank(ranked, {"c", "b"}) == 0.5
    assert reciprocal_rank(ranked, {"z"}) == 0
    assert reciprocal_rank(ranked, {"c"}, depth=2) == 0
    assert recall_at(2, ranked, {"a", "c"}) == 0.5
    with pytest.raises(ValueError, match="relevant"):
        recall_at(2, ranked, set())


def test_an_item_found_twice_gains_once() -> None:
    assert ndcg_at(10, ["a", "a"], {"a": 1.0, "b": 1.0}) < 1
    assert ndcg_at(10, ["a", "a", "b"], {"a": 1.0, "b": 1.0}) <= 1


@given(
    st.permutations(range(8)),
    st.dictionaries(st.integers(0, 9), st.floats(0, 5), min_size=1),
    st.integers(1, 10),
)
def test_ndcg_is_a_share_and_the_best_order_has_all(
    ranked: list[int], gains: dict[int, float], k: int
) -> None:
    best = sorted(gains, key=lambda item: -gains[item])
    assert 0 <= ndcg_at(k, ranked, gains) <= 1 + 1e-9
    if any(gain > 1e-12 for gain in gains.values()):
        assert ndcg_at(k, best, gains) == pytest.approx(1)


def test_figures_of_several_questions() -> None:
    rankings = [
        Ranking(ranked=["a", "b"], gains={"a": 1}),
        Ranking(ranked=["a", "b"], gains={"b": 1}),
        Ranking(ranked=["a", "b"], gains={"c": 1}),
    ]
    found = ranking_figures(rankings, cuts=(1, 2))
    assert found["hit@1"].value == pytest.approx(1 / 3)
    assert found["hit@2"].value == pytest.approx(2 / 3)
    assert found["mrr@10"].value == pytest.approx(0.5)
    assert all(one.low <= one.value <= one.high for one in found.values())
    with pytest.raises(ValueError, match="question"):
        ranking_figures([])


def test_questions_of_one_cluster_are_redrawn_together() -> None:
    values = [1.0] * 50 + [0.0] * 50
    alone = figure(values)
    together = figure(values, [i // 10 for i in range(100)])
    assert alone.value == together.value == 0.5
    assert together.high - together.low > 2 * (alone.high - alone.low)
