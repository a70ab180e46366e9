"""Verifiers: what is right, what is wrong, and what happens when one of them breaks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fledge.core.errors import FledgeError, InputError
from fledge.core.types import Message, ToolCall
from fledge.tune.json_schema import schema_problem
from fledge.tune.judging import Judge, within
from fledge.tune.numbers import numbers_in, stated_number
from fledge.tune.prompts import Prompt
from fledge.tune.verifiers import VERIFIERS, Score, code_tests

SCHEMA = {
    "type": "object",
    "properties": {"year": {"type": "integer", "minimum": 1800}, "tags": {"type": "array"}},
    "required": ["year"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("name", "answer", "reference", "reward"),
    [
        ("exact", " In 1937. ", {"answer": "in  1937"}, 1),
        ("exact", "1937", {"answer": ["1936", "1937"]}, 1),
        ("exact", "", {"answer": "x"}, 0),
        ("contains", "It opened in 1937, they say", {"answer": "1937"}, 1),
        ("fact", "It opened in 1937.", {"answer": "1937", "rivals": ["1936"]}, 1),
        ("fact", "It opened in 1936 or 1937.", {"answer": "1937", "rivals": ["1936"]}, 0),
        ("fact", "I don't know when it opened.", {"answer": "1937", "language": "en"}, 0),
        ("fact", "我不知道。", {"answer": None, "language": "zh-Hans"}, 1),
        ("fact", "It opened in 1937.", {"answer": None, "language": "en"}, 0),
        ("numeric", "The span is 1,280 m.", {"answer": 1280}, 1),
        ("numeric", "First 3, then 1280.5", {"answer": "1280.4", "tolerance": 0.001}, 1),
        ("numeric", "First 1280, then 3", {"answer": 1280}, 0),
        ("numeric", "主跨约一千二百八十米", {"answer": 1280}, 1),
        ("numeric", "主跨1280米，一起通车", {"answer": 1280}, 1),
        ("numeric", "约1.2万人", {"answer": "一万二"}, 1),
        ("numeric", "no idea", {"answer": 5}, 0),
        ("regex", "code ABC-123", {"pattern": r"[A-Z]{3}-\d+"}, 1),
        ("regex", "aaaa" * 5000, {"pattern": r"^(a+)+$b"}, 0),
        ("choice", "The answer is B.", {"choices": ["x", "y"], "answer": "B"}, 1),
        ("choice", "A or B", {"choices": ["x", "y"], "answer": "B"}, 0),
        ("choice", "It is the steel one", {"choices": ["steel", "stone"], "answer": 0}, 1),
        ("choice", "stone", {"choices": ["steel", "stone"], "answer": "steel"}, 0),
        ("schema", '```json\n{"year": 1937}\n```', {"schema": SCHEMA}, 1),
        ("schema", '{"year": 1700}', {"schema": SCHEMA}, 0),
        ("schema", '{"year": true}', {"schema": SCHEMA}, 0),
        ("schema", '{"year": 1900, "more": 1}', {"schema": SCHEMA}, 0),
        ("schema", "year: 1937", {"schema": SCHEMA}, 0),
        ("schema", "[" * 100_000, {"schema": SCHEMA}, 0),
        ("form", "Yes, of course", {"prefix": "Yes", "most_words": 2}, 0.5),
        ("length", "x" * 900, {"most_characters": 600}, -0.5),
        ("length", "x" * 9000, {}, -1),
        ("repetition", "a b c d", {}, 0),
        ("repetition", "a b c a b c a b c", {}, 3 / 7 - 1),
        ("not_empty", "  ", {}, 0),
    ],
)
def test_scores(name: str, answer: str, reference: Mapping[str, Any], reward: float) -> None:
    found = VERIFIERS[name]((), answer, reference)
    assert found.reward == pytest.approx(reward), found.reason


def test_numbers_of_both_languages() -> None:
    text = "A-4: 10-12, -5, 3.5万, 2 million, 一九三七年, 三点五, 负三, 一千零五, １，２８０, 1.3e4"
    wanted = [4, 10, 12, -5, 35000, 2e6, 1937, 3.5, -3, 1005, 1280, 13000]
    assert numbers_in(text) == wanted
    assert stated_number("nothing") is None


def test_tool_calls_and_their_results_count() -> None:
    call = ToolCall(id="0", name="calculator", arguments='{"expression": "2*3"}')
    said = (
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="6", tool_call_id="0"),
    )
    valid, result = VERIFIERS["tool_call"], VERIFIERS["tool_result"]
    assert valid(said, "", {"tool": "calculator"}).reward == 1
    assert valid(said, "", {"arguments": {"expression": "2*4"}}).reward == 0
    assert valid((), "", {}).reason == "no tool was called"
    assert result(said, "It is 6.", {}).reward == 1
    assert result(said, "It is 16.", {}).reward == 0


def test_an_unknown_keyword_of_a_schema_is_refused() -> None:
    with pytest.raises(InputError, match="'oneOf' is not known"):
        schema_problem(1, {"oneOf": []})


class Box:
    """A sandbox that knows no isolation: for tests of trusted code only."""

    def run(self, code: str, *, timeout_seconds: float) -> str:
        try:
            exec(code, {})
        except Exception as error:
            raise FledgeError(f"{type(error).__name__}: {error}") from None
        return ""


def test_code_is_judged_by_its_tests() -> None:
    code, tests = code_tests(Box()), {"tests": "assert double(4) == 8"}
    fence = "```python\ndef double(x):\n    return {} * x\n```"
    assert code((), fence.format(2), tests).reward == 1
    wrong = code((), fence.format(3), tests)
    assert (wrong.reward, wrong.reason) == (0, "AssertionError: ")


def prompt(**reference: Any) -> Prompt:
    messages = (Message(role="user", content="?"),)
    verifier = str(reference.pop("verifier", ""))
    return Prompt(number=0, messages=messages, reference=reference, verifier=verifier, origin="f:1")


def test_scores_are_weighed_and_added() -> None:
    judge = Judge({"task": 2.0, "length": 0.5}, "exact", 1.0)
    judged = judge.judge(prompt(answer="x" * 900, most_characters=600), (), "x" * 900)
    assert judged.reward == pytest.approx(2.0 - 0.25)
    assert judged.parts == {"task": 1.0, "length": -0.5}
    other = judge.judge(prompt(verifier="contains", answer="b"), (), "abc")
    assert other.parts["task"] == 1.0


def raises(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    raise RuntimeError("oh no")


def hangs(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    time.sleep(30)
    return Score(1.0)


def no_number(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    return Score(float("nan"))


@pytest.mark.parametrize(
    ("verifier", "why"),
    [(raises, "RuntimeError: oh no"), (hangs, "more than 0.1 s"), (no_number, "gave nan")],
)
def test_a_broken_verifier_counts_as_nothing_and_says_so(verifier: Any, why: str) -> None:
    judge = Judge({"bad": 1.0, "not_empty": 1.0}, "exact", 0.1, {"bad": verifier})
    begun = time.monotonic()
    judged = judge.judge(prompt(), (), "x")
    assert time.monotonic() - begun < 5
    assert judged.reward == 1.0
    assert judged.failures == 1
    assert why in judged.reasons["bad"]


def test_unknown_names_and_missing_references_are_refused_before_training() -> None:
    with pytest.raises(InputError, match="did you mean 'exact'"):
        Judge({"task": 1.0}, "exat", 1.0)
    judge = Judge({"task": 1.0}, "exact", 1.0)
    with pytest.raises(InputError, match="f:1: the verifier 'exact' needs 'answer'"):
        judge.check([prompt()])
    with pytest.raises(InputError, match="f:1: there is no verifier 'nobody'"):
        judge.check([prompt(verifier="nobody")])


def test_what_a_call_raises_is_raised() -> None:
    assert within(lambda: 3, 1.0) == 3
    with pytest.raises(KeyError):
        within(lambda: {}["x"], 1.0)


def test_a_fact_is_judged_by_the_question_and_not_by_what_a_tool_said() -> None:
    asked = Message(role="user", content="Which river does the Trent Bridge cross?")
    tool = Message(role="tool", content="1")
    reference = {"answer": "Mersey", "rivals": ["Trent"]}
    answer = "The Trent Bridge crosses the Mersey."  # the rival is only the bridge's name
    for messages, reward in (([asked], 1), ([asked, tool], 1), ([tool], 0)):
        assert VERIFIERS["fact"](messages, answer, reference).reward == reward
