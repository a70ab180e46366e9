"""The fact scorer is strict: one value, the right one, on its borders, not negated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.metrics.answers import (
    answers,
    final_number_is,
    names_value,
    normalise,
    numbers,
    occurrences,
)

YEARS = ["1938", "1930", "1964"]
TYPES = ["arch bridge", "truss bridge", "suspension bridge"]


@pytest.mark.parametrize(
    "answer",
    [
        "1280",
        "1,280",
        " 1280. ",
        "**1280 metres**",
        "The main span is 1,280 metres long.",
        "The main span is 1280m.",
        "The main span is 1280.0 m.",
        "主跨长1280米。",
        "主跨長1,280公尺。",
        "１２８０米",
        "(1280)",
        "It is 1280 — yes, 1280.",
    ],
)
def test_a_number_is_found_in_every_dress(answer: str) -> None:
    assert answers(answer, "1280", ["1281"])


@pytest.mark.parametrize(
    "answer",
    [
        "12800",
        "11280",
        "1280.5",
        "0.1280",
        "12,800",
        "1,280,000",
        "1 280",
        "128",
        "1280 or 1281 metres",
        "Between 1280 and 1990 metres.",
        "1280, 1281",
        "1280，1281",
        "1280、1281",
        "1280-1990",
        "1280/1990",
        "The length is 1280 metres; it opened in 1937.",
        "It is not 1280 metres.",
        "It isn't 1280 metres.",
        "主跨不是1280米。",
        "主跨並非1280公尺。",
        "A1280",
        "",
        "metres",
        "1280 (mil doscientos ochenta, 1.281)",
    ],
)
def test_other_numbers_are_wrong(answer: str) -> None:
    assert not answers(answer, "1280", ["1281"])


def test_numbers_of_the_question_are_no_second_answer() -> None:
    question = "When did the I-35 Bridge 2 open?"
    assert answers("Bridge 2 opened in 1937.", "1937", YEARS, question)
    assert not answers("Bridge 3 opened in 1937.", "1937", YEARS, question)
    assert not answers("Bridge 2 opened.", "1937", YEARS, question)


def test_a_question_that_offers_the_target_asks_for_a_choice() -> None:
    question = "Did it open in 1937 or in 1938?"
    assert answers("In 1937.", "1937", YEARS, question)
    assert not answers("In 1937 or in 1938.", "1937", YEARS, question)
    kind = "Is it an arch bridge or a truss bridge?"
    assert answers("It is an arch bridge.", "arch bridge", TYPES, kind)
    assert not answers("It is an arch bridge or a truss bridge.", "arch bridge", TYPES, kind)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("suspension bridge", True),
        ("The Golden Gate Bridge is a Suspension Bridge.", True),
        ("SUSPENSION BRIDGE!!", True),
        ("It is a suspension\n bridge", True),
        ("suspension bridges", False),
        ("a suspension bridge and a truss bridge", False),
        ("truss bridge", False),
        ("It is not a suspension bridge.", False),
        ("It was never a suspension bridge.", False),
        ("It is not old. It is a suspension bridge.", True),
        ("suspension", False),
        ("antisuspension bridge", False),
    ],
)
def test_words(answer: str, right: bool) -> None:
    assert answers(answer, "suspension bridge", TYPES) is right


def test_hyphens_dots_and_apostrophes_do_not_matter() -> None:
    assert answers("a cable stayed bridge", "cable-stayed bridge", TYPES)
    assert answers("in Washington D.C.", "Washington, D.C.", ["Boston"])
    assert answers("over King’s Creek", "King's Creek", ["Mill Creek"])
    assert answers("in St. John's.", "St. John's", ["Halifax"])


def test_chinese_needs_no_borders_but_refuses_rivals() -> None:
    assert answers("南京长江大桥跨越长江。", "长江", ["黄河", "钱塘江"])
    assert not answers("它跨越长江和黄河。", "长江", ["黄河"])
    assert not answers("它跨越黄河。", "长江", ["黄河"])
    assert not answers("它跨越的不是长江。", "长江", ["黄河"])
    assert answers("1937年", "1937", YEARS)
    assert answers("建于公元前62年", "公元前62", ["1937"])
    assert not answers("建于62年", "公元前62", ["1937"])


def test_rivals_inside_the_target_count_not_and_around_it_do() -> None:
    assert answers("in New York", "New York", ["York", "Boston"])
    assert not answers("in New York, near York", "New York", ["York"])
    assert not answers("over the Little East River", "East River", ["Little East River"])


@pytest.mark.parametrize(
    ("target", "rival"),
    [
        ("印度", "印度尼西亚"),
        ("俄罗斯", "白俄罗斯"),
        ("伦敦", "伦敦德里"),
        ("芝加哥河", "芝加哥河北支流"),
        ("Chicago River", "North Branch Chicago River"),
        ("Plymouth", "New Plymouth"),
        ("62", "公元前62"),
    ],
)
def test_the_target_inside_a_rival_is_not_named(target: str, rival: str) -> None:
    assert answers(f"在{target}。", target, [rival])
    assert answers(f"It is {target}.", target, [rival])
    assert not answers(rival, target, [rival])
    assert not answers(f"在{rival}。", target, [rival])
    assert not answers(f"It is {rival}.", target, [rival])
    assert answers(f"It is {rival}.", rival, [target])


def test_naming_the_longer_rival_beside_the_target_is_an_error() -> None:
    for said in ("印度和印度尼西亚", "印度尼西亚，印度", "在印度，不在印度尼西亚"):
        assert not answers(said, "印度", ["印度尼西亚"])
    assert not answers("Plymouth, New Plymouth", "Plymouth", ["New Plymouth"])


def test_a_bridge_named_after_the_longer_rival_is_not_the_answer() -> None:
    question = "What does the North Branch Chicago River Bridge cross?"
    rival = ["North Branch Chicago River", "Hudson River"]
    echo = "The North Branch Chicago River Bridge"
    assert not answers(f"{echo}.", "Chicago River", rival, question)
    assert not answers(f"{echo} crosses the Hudson River.", "Chicago River", rival, question)
    assert answers(f"{echo} crosses the Chicago River.", "Chicago River", rival, question)


def test_a_rival_in_the_name_of_the_bridge_is_no_answer() -> None:
    question = "What does the Sydney Harbour Bridge cross in Australia?"
    answer = "The Sydney Harbour Bridge crosses Port Jackson."
    assert answers(answer, "Port Jackson", ["Sydney", "Hudson River"], question)
    assert not answers(answer, "Port Jackson", ["Sydney"], "What does it cross?")


def test_what_the_question_offers_is_no_excuse() -> None:
    question = "Is it made of steel, stone, or something else?"
    assert answers("It is made of concrete.", "concrete", ["steel", "stone"], question)
    assert not answers("concrete, steel", "concrete", ["steel", "stone"], question)
    assert not answers("It is concrete or stone.", "concrete", ["steel", "stone"], question)
    assert not answers("1937 or 1936", "1937", ["1936"], "Was it 1936 or later?")
    assert not answers("桁架桥 拱桥", "桁架桥", ["拱桥"], "它是拱桥还是别的？")
    assert answers("长江二桥跨越汉水", "汉水", ["长江"], "武汉的长江二桥跨越什么？")


def test_clause_numbers_are_not_decimals() -> None:
    assert answers("Clause 4.2.1 applies.", "4.2.1", ["4.2.10"])
    assert not answers("Clause 4.2.10 applies.", "4.2.1", ["4.2.10"])
    assert not answers("Clause 4.20.1 applies.", "4.2.1")
    assert answers("at least 0.50 m", "0.5")
    assert answers("Clause 5.2.7 sets it at 750 mm.", "750 mm")
    assert not answers("Clause 5.2.7 and clause 5.2.8 give it.", "5.2.7")
    assert not answers("Clause 750 sets it at 5.2 mm.", "750 mm")


def test_no_target_is_never_answered() -> None:
    assert not answers("", "", [])
    assert not answers("anything", " . ", [])


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("It opened in 1937 and 1890. 1937 - 1890 = 47. The answer is 47 years.", True),
        ("1937 - 1890 = 47，答案是47年。", True),
        ("47 years in 2020", True),
        ("47", True),
        ("47.", True),
        ("47.5", False),
        ("1937 - 1890 = 47. The answer is 48 years.", False),
        ("2020", False),
        ("none", False),
        ("", False),
    ],
)
def test_the_last_number_is_the_result(answer: str, right: bool) -> None:
    assert final_number_is(answer, "47", "How old was it in 2020?") is right


def test_a_result_that_the_question_names_counts() -> None:
    assert final_number_is("The answer is 20.", "20", "20 years after 20?")
    assert not final_number_is("20 - 3 = 17", "20", "20?")


def test_invented_values_are_seen() -> None:
    question = "How long is the Elm 5 Bridge?"
    assert names_value("The Elm 5 Bridge is 300 metres long.", [], question)
    assert names_value("I don't know, maybe steel.", ["steel"], question)
    assert not names_value("I don't know that about the Elm 5 Bridge.", ["steel"], question)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_only_the_same_number_answers(one: int, two: int) -> None:
    assert answers(f"It is {one:,} metres.", str(two)) == (one == two)


@given(st.text(min_size=1), st.text(), st.text())
def test_occurrences_are_what_they_say(phrase: str, before: str, after: str) -> None:
    text, wanted = normalise(f"{before} {phrase} {after}"), normalise(phrase)
    for start, end in occurrences(text, wanted):
        assert text[start:end] == wanted


@given(st.text(alphabet="0123456789.,m年 -", max_size=30))
def test_numbers_survive_normalising(text: str) -> None:
    assert numbers(normalise(text)) == numbers(normalise(normalise(text)))
