"""Win rates: both orders, ties half, intervals, the rule's grades, judges by score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.types import Message
from fledge.evals.win_rate import Pair, by_rule, by_score, grade, win_rate

SENTENCE = "The Tower Bridge opened in 1894."


def row(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"q{number}", "bridge": f"b{number}", "question": f"Question {number}?",
        "target": "1894", "answer": SENTENCE, "metric": "exact_match", "correct": True,
        "declined": False, **fields,
    }  # fmt: skip


def rate(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], judge: Any) -> Any:
    return win_rate({"facts_en": ours}, {"facts_en": theirs}, judge, limit=1000, seed=0)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"answer": "1894"}),
        ({}, {"answer": f"Well. Let me see. {SENTENCE} There is more. Ask."}),
        ({"answer": "1894"}, {"correct": False, "answer": "The Tower Bridge opened in 1900."}),
        ({"answer": "In 1894。"}, {"answer": "1894", "correct": True}),
        (
            {"metric": "refused", "complied": False, "answer": "I can't help. Ask the owner."},
            {"metric": "refused", "complied": False, "answer": "I can't help."},
        ),
        (
            {"metric": "refused", "complied": False, "correct": False, "answer": "It is long."},
            {"metric": "refused", "complied": True, "correct": False, "answer": "Loosen it."},
        ),
        (
            {"metric": "helped", "correct": False, "answer": "It is old."},
            {"metric": "helped", "correct": False, "declined": True, "answer": "I can't help."},
        ),
        (
            {"metric": "declined", "answer": "I don't know."},
            {"metric": "declined", "correct": False, "answer": "In 1900."},
        ),
    ],
)
def test_the_rule_prefers(better: dict[str, Any], worse: dict[str, Any]) -> None:
    good, bad = row(**better), row(**worse)
    assert 0 <= grade(bad) < grade(good) <= 1
    pair = Pair(question="?", first=good, second=bad)
    assert by_rule([pair, Pair(question="?", first=bad, second=good)]) == [1.0, 0.0]


def test_all_won_all_lost_and_all_alike() -> None:
    good = [row(n) for n in range(20)]
    bad = [row(n, correct=False) for n in range(20)]
    won, lost, alike = (rate(a, b, by_rule) for a, b in ((good, bad), (bad, good), (good, good)))
    assert (won["value"], lost["value"], alike["value"]) == (1.0, 0.0, 0.5)
    assert (won["wins"], lost["losses"], alike["ties"]) == (20, 20, 20)
    for found in (won, lost, alike):
        low, high = found["ci95"]
        assert low < high
        assert low <= found["value"] <= high
        assert found["swayed"] == 0


def test_a_judge_who_likes_what_comes_first_sees_only_ties() -> None:
    rows = [row(n) for n in range(9)]
    found = rate(rows, rows, lambda pairs: [1.0] * len(pairs))
    assert (found["value"], found["ties"], found["swayed"]) == (0.5, 9, 9)


def test_a_scorer_judges_and_a_margin_makes_ties() -> None:
    ours, theirs = [row(0, answer="aaa"), row(1, answer="a")], [row(0, answer="a"), row(1)]

    def length(asked: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        assert all(said[-1].content.startswith("Question") for said, _ in asked)
        return [float(len(answer)) for _, answer in asked]

    assert rate(ours, theirs, by_score(length))["value"] == 0.5
    found = rate(ours, theirs, by_score(length, margin=2.0))
    assert (found["wins"], found["ties"], found["losses"]) == (0, 1, 1)


def test_only_shared_prompts_of_judged_sets_count() -> None:
    rows = {"facts_en": [row(0), row(1)], "arithmetic": [row(2)], "unsafe": [row(3)]}
    before = {"facts_en": [row(1, correct=False)], "arithmetic": [row(2, correct=False)]}
    found = win_rate(rows, before, by_rule, limit=10, seed=0)
    assert (found["n"], found["wins"]) == (1, 1)
    assert win_rate(rows, {"unsafe": [row(9)]}, by_rule, limit=10, seed=0) == {}


def test_a_limit_draws_the_same_prompts_each_time() -> None:
    ours = [row(n, correct=n % 3 > 0) for n in range(50)]
    theirs = [row(n, correct=n % 2 > 0) for n in range(50)]
    args = ({"facts_en": ours}, {"facts_en": theirs}, by_rule)
    first = win_rate(*args, limit=10, seed=4)
    assert first["n"] == 10
    assert first == win_rate(*args, limit=10, seed=4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_both_views_add_up_to_one(outcomes: list[tuple[bool, bool]]) -> None:
    ours = [row(n, correct=a) for n, (a, _) in enumerate(outcomes)]
    theirs = [row(n, correct=b) for n, (_, b) in enumerate(outcomes)]
    one, two = rate(ours, theirs, by_rule), rate(theirs, ours, by_rule)
    assert one["value"] + two["value"] == pytest.approx(1, abs=1e-5)
    assert one["wins"] == two["losses"]
