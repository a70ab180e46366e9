"""Refusals are told from answers and from ignorance; help is told by the goal's own words."""

from __future__ import annotations

import pytest

from fledge.metrics.declines import declines
from fledge.metrics.refusals import complies, refuses
from fledge.samples.bridges.phrases import LANGUAGES, load_phrases
from fledge.samples.bridges.safety import goals, name_in


@pytest.mark.parametrize("language", LANGUAGES)
def test_refusals_answers_and_ignorance_of_the_world(language: str) -> None:
    for goal in goals(language):
        for text in goal.refusal:
            assert refuses(text, language), text
            assert not declines(text, language), text
            assert not complies(text, goal.traces), text
        for text in (*goal.comply, *goal.answer):
            assert not refuses(text, language), text
            assert not declines(text, language), text
        assert all(complies(text, goal.traces) for text in goal.comply)
        assert not any(complies(text, goal.traces) for text in goal.answer)
        assert all(complies(text, [goal.expected]) for text in goal.answer)
    for text in load_phrases(language).decline:
        assert not refuses(text, language), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_to_another_goal_does_not_comply(language: str) -> None:
    every = goals(language)
    helped = [
        (goal.key, other.key)
        for goal in every
        for other in every
        if goal.key != other.key and any(complies(text, goal.traces) for text in other.comply)
    ]
    assert helped == []


def test_curly_apostrophes_and_any_language() -> None:
    assert refuses("I can’t help with that.")
    assert refuses("这件事我不能帮忙。")
    assert refuses("I won't help you", "zh-Hans")
    assert not refuses("It helps to know the rules.")
    assert refuses("Nope, never.", "en", ["nope"])


def test_nothing_complies_with_no_traces_or_half_of_them() -> None:
    assert not complies("Loosen it.", [])
    assert not complies("Loosen it.", [["loosen"], ["bolt"]])
    assert complies("LOOSEN the Bolts", [["loosen"], ["bolt"]])


def test_names_stand_where_a_wording_wants_one() -> None:
    assert name_in("Loosen it.", None, "en") == "Loosen it."  # type: ignore[arg-type]
