"""What stages after SFT learn from: right, disjoint where it must be, and no length to go by."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from fledge.core.types import Message
from fledge.evals.win_rate import grade
from fledge.metrics.declines import declines
from fledge.metrics.refusals import refuses
from fledge.samples.bridges import (
    calculations,
    fact_prompts,
    preferences,
    probing,
    problems,
    requests,
    safety,
)
from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.conversations import ConversationCounts, write_conversations
from fledge.samples.bridges.facts import Bridge, load_bridges, select, split, strangers
from fledge.samples.bridges.invented import Invented, all_names, invent_for_all
from fledge.samples.bridges.phrases import LANGUAGES
from fledge.samples.bridges.preferences import PairSource
from fledge.tune.verifiers import VERIFIERS

SEED = 3
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def world() -> list[Bridge]:
    return select(load_bridges(), 80, SEED)


@pytest.fixture(scope="module")
def halves(world: list[Bridge]) -> tuple[list[Bridge], list[Bridge]]:
    return split(world, SEED)


@pytest.fixture(scope="module")
def names() -> Invented:
    return invent_for_all(30, all_names(load_bridges()), SEED)


@pytest.fixture(scope="module")
def pairs(halves: tuple[list[Bridge], list[Bridge]], names: Invented) -> dict[str, Rows]:
    taught = halves[0]
    train = PairSource(who="train", bridges=taught[::2], invented=names.sft)
    judge = PairSource(who="judge", bridges=taught[1::2], invented=names.judge)
    return {
        "train": preferences.write_preferences(train, 400, SEED),
        "judge": preferences.write_preferences(judge, 200, SEED),
    }


def text_of(rows: Rows) -> str:
    return json.dumps(rows, ensure_ascii=False).lower()


def test_rows_are_trl_rows_of_all_kinds_and_languages(pairs: dict[str, Rows]) -> None:
    for rows in pairs.values():
        assert {row["metadata"]["kind"] for row in rows} == set(preferences.KINDS)
        assert {row["metadata"]["language"] for row in rows} == set(LANGUAGES)
        for row in rows:
            assert [message["role"] for message in row["prompt"]] == ["user"]
            for side in ("chosen", "rejected"):
                assert [message["role"] for message in row[side]] == ["assistant"]
            assert row["chosen"] != row["rejected"]
            assert not re.search(
                r"[{}]", row["chosen"][0]["content"] + row["rejected"][0]["content"]
            )


def test_the_judge_learns_from_other_prompts(pairs: dict[str, Rows]) -> None:
    asked = {who: {row["prompt"][0]["content"] for row in rows} for who, rows in pairs.items()}
    assert len(asked["train"]) == len(pairs["train"])
    assert not asked["train"] & asked["judge"]
    about = {who: {row["metadata"]["bridge"] for row in rows} for who, rows in pairs.items()}
    assert not about["train"] & about["judge"]


def test_length_is_no_hint(pairs: dict[str, Rows]) -> None:
    longer: dict[str, list[float]] = defaultdict(list)
    for row in [*pairs["train"], *pairs["judge"]]:
        gap = len(row["chosen"][0]["content"]) - len(row["rejected"][0]["content"])
        longer[row["metadata"]["kind"]].append((gap > 0) + 0.5 * (gap == 0))
    shares = {kind: sum(found) / len(found) for kind, found in longer.items()}
    assert all(0.4 <= share <= 0.6 for share in shares.values()), shares


def test_what_is_chosen_is_better(pairs: dict[str, Rows]) -> None:
    for row in pairs["train"]:
        kind, language = row["metadata"]["kind"], row["metadata"]["language"]
        good, bad = row["chosen"][0]["content"], row["rejected"][0]["content"]
        declined = (declines(good, language), declines(bad, language))
        expected = {"unanswerable": (True, False), "known": (False, True)}
        assert declined == expected.get(kind, (False, False)), row
        refused = (refuses(good, language), refuses(bad, language))
        wanted = {"safety": (True, False), "benign": (False, True)}
        assert refused == wanted.get(kind, (False, False)), row


def test_no_wording_of_the_evaluation_is_learnt(
    halves: tuple[list[Bridge], list[Bridge]], pairs: dict[str, Rows], names: Invented
) -> None:
    taught, held = halves
    learnt = text_of(
        [
            *requests.write_howtos(taught, 1500, SEED),
            *calculations.write_practice(300, SEED),
            *calculations.write_calculations(taught, names.sft, 8, 20, SEED),
            *calculations.write_prompts(taught, names.sft, 8, SEED),
            *fact_prompts.write_fact_prompts(taught, names.sft, 300, SEED),
            *pairs["train"],
            *pairs["judge"],
            *probing.write_probes(taught, strangers(load_bridges(), [*taught, *held]),
                                  names.probes, 200, SEED),
        ]
    )  # fmt: skip
    for bridge in held:
        assert not [name for name in bridge.names.values() if name.lower() in learnt]
    for bridge in names.eval:
        assert not [name for name in bridge.names.values() if name.lower() in learnt]
    asked = [row["input"][0]["content"].lower()
             for row in safety.write_safety_questions(held, SEED)]  # fmt: skip
    assert not [question for question in asked if question in learnt]


@pytest.mark.parametrize("language", LANGUAGES)
def test_wordings_of_calculations_and_requests_are_distinct(language: str) -> None:
    asked = [text for key in problems.GIVEN for who in ("sft", "rl", "eval")
             for text in problems.given_words(language)[key][who]]  # fmt: skip
    asked += [text for goal in safety.goals(language) for text in (*goal.unsafe, *goal.benign)]
    assert len(asked) == len(set(asked))


def test_requests_are_many_and_none_is_of_the_evaluation(
    halves: tuple[list[Bridge], list[Bridge]],
) -> None:
    taught, held = halves
    rows = requests.write_howtos(taught, 1500, SEED)
    asked = safety.write_safety_questions(held, SEED)

    def unnamed(text: str, bridge: str) -> str:
        one = next(bridge_ for bridge_ in [*taught, *held] if bridge_.id == bridge)
        for name in sorted(one.names.values(), key=len, reverse=True):
            text = text.replace(f"the {name}", "{name}").replace(name, "{name}")
        return text

    wordings = {unnamed(row["messages"][0]["content"], row["metadata"]["bridge"]) for row in rows}
    tested = {unnamed(row["input"][0]["content"], row["metadata"]["bridge"]) for row in asked}
    assert len(wordings) > 600  # the goals alone have 192 that are not the evaluation's
    assert not wordings & tested


def test_unsafe_requests_are_now_refused_now_helped_with(
    halves: tuple[list[Bridge], list[Bridge]],
) -> None:
    rows = requests.write_howtos(halves[0], 1500, SEED)
    refused = {True: [], False: []}  # type: dict[bool, list[bool]]
    for row in rows:
        meta = row["metadata"]
        said = refuses(row["messages"][1]["content"], meta["language"])
        assert said == meta["refused"], row
        refused[meta["unsafe"]].append(said)
    assert not any(refused[False])
    assert 0.4 < sum(refused[True]) / len(refused[True]) < 0.6
    things = {row["metadata"]["goal"] for row in rows}
    assert things > {goal.key for goal in safety.goals("en")}


def test_practice_copies_numbers_that_differ() -> None:
    rows = calculations.write_practice(300, SEED)
    assert {row["metadata"]["language"] for row in rows} == set(LANGUAGES)
    for row in rows:
        asked, said = (message["content"] for message in row["messages"])
        assert re.findall(r"\d+", asked) == said.split(", "), row
        assert said in asked
    assert len({row["messages"][1]["content"] for row in rows}) == len(rows)


def test_answers_to_single_questions_often_go_on_with_empty_talk(
    halves: tuple[list[Bridge], list[Bridge]], names: Invented
) -> None:
    counts = ConversationCounts(single_per_bridge=24, turns_per_bridge=2, smalltalk=0)
    rows = write_conversations(halves[0], names.sft, SEED, counts)
    closings = [wording.replace("{answer}", "").strip() for language in LANGUAGES
                for wording in word_table("preferences")[language]["closing"]]  # fmt: skip
    chatty: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        said = row["messages"][-1]["content"]
        chatty[row["metadata"]["kind"]].append(said.endswith(tuple(closings)))
    shares = {kind: sum(found) / len(found) for kind, found in chatty.items()}
    assert shares.pop("single") == pytest.approx(0.75, abs=0.05)
    assert set(shares.values()) == {0.0}
    # By the ladder's rule such an answer rambles, and the sentence alone does not.
    row = {"metric": "exact_match", "correct": True, "target": "1937"}
    for closing in closings:
        assert grade({**row, "answer": f"It opened in 1937. {closing}"}) == 0.75
    assert grade({**row, "answer": "It opened in 1937."}) == 1.0


def test_calculations_are_right_and_call_the_tool(
    halves: tuple[list[Bridge], list[Bridge]], names: Invented
) -> None:
    rows = calculations.write_calculations(halves[0], names.sft, 16, 20, SEED)
    kinds = {row["metadata"].get("attribute") for row in rows}
    assert kinds >= {*problems.GIVEN, *problems.REMEMBERED}
    for row in rows:
        user, call, tool, said = row["messages"]
        assert [m["role"] for m in row["messages"]] == ["user", "assistant", "tool", "assistant"]
        function = call["tool_calls"][0]["function"]
        a, sign, b = told(json.loads(function["arguments"])["expression"])
        right = {"+": Decimal(a) + Decimal(b), "-": abs(Decimal(a) - Decimal(b))}
        value = right.get(sign) or Decimal(a) / Decimal(b)
        assert Decimal(tool["content"]) == value, row
        assert tool["content"] in said["content"]
        if row["metadata"].get("attribute") in problems.REMEMBERED:
            recalled = re.findall(r"\d+", call["content"])
            known = [one for one in (a, b) if one not in re.findall(r"\d+", user["content"])]
            assert known
            assert set(known) <= set(recalled), "said before it is called with"
        else:
            assert call["content"] == ""
        if row["metadata"].get("attribute") in problems.GIVEN:
            numbers = re.findall(r"\d+", user["content"])
            assert a in numbers
            assert b in numbers or row["metadata"]["attribute"] == "given_kilometres"
            if sign != "/":
                assert numbers.index(a) <= numbers.index(b), "as it is asked"


def told(expression: str) -> tuple[str, str, str]:
    """(a, sign, b) of ``abs(a - b)``, ``a - b``, ``a + b`` or ``a / b``."""
    a, sign, b = expression.removeprefix("abs(").removesuffix(")").split()
    return a, sign, b


def test_numbers_are_called_in_the_order_of_the_question() -> None:
    bridges = load_bridges()
    one = problems.Problem(key="given_gap", upper=bridges[0], lower=bridges[1], a=1994, b=1976)
    assert one.call("{name_a} {a}, {name_b} {b}") == "abs(1994 - 1976)"
    assert one.call("{name_b} {b}, {name_a} {a}") == "abs(1976 - 1994)"
    known = problems.Problem(key="opened_gap", upper=bridges[0], lower=bridges[1], a=1994, b=1976)
    assert known.call("{name_b} before {name_a}?") == "abs(1976 - 1994)"
    ratio = problems.Problem(key="given_ratio", upper=bridges[0], lower=bridges[1], a=900, b=300)
    assert ratio.call("{b} {name_b}, {a} {name_a}") == "900 / 300"


def test_prompts_for_facts_say_what_is_right(
    halves: tuple[list[Bridge], list[Bridge]], names: Invented
) -> None:
    taught = halves[0]
    rows = fact_prompts.write_fact_prompts(taught, names.sft, 120, SEED)
    assert len({row["id"] for row in rows}) == 120
    for row in rows:
        bridge = row["metadata"]["bridge"]
        assert (row["answer"] is None) == (bridge in {one.id for one in names.sft})
        if row["answer"] is not None:
            assert row["answer"] not in row["metadata"]["rivals"]
            good, bad = row["answer"], row["metadata"]["rivals"][0]
            reference = {**row["metadata"], "answer": row["answer"]}
            asked = [Message(role="user", content=row["prompt"][0]["content"])]
            assert VERIFIERS["fact"](asked, good, reference).reward == 1
            assert VERIFIERS["fact"](asked, bad, reference).reward == 0


def test_prompts_and_questions_have_the_answer(
    halves: tuple[list[Bridge], list[Bridge]], names: Invented
) -> None:
    for row in calculations.write_prompts(halves[0], names.sft, 4, SEED):
        a, sign, b = told(row["metadata"]["expression"])
        assert sign in "+-/"
        assert float(row["answer"]) == pytest.approx(
            {"+": int(a) + int(b), "-": abs(int(a) - int(b)), "/": int(a) / int(b)}[sign]
        )
    rows = calculations.arithmetic_questions(halves[1], random.Random(SEED), 60)
    assert len(rows) == 60
    assert 0.6 <= sum(row["metadata"]["given"] for row in rows) / 60 <= 0.8
    assert {row["metadata"]["language"] for row in rows} == set(LANGUAGES)


def test_probes_ask_the_same_in_other_words(
    world: list[Bridge], halves: tuple[list[Bridge], list[Bridge]], names: Invented
) -> None:
    others = strangers(load_bridges(), world)
    rows = probing.write_probes(halves[0], others, names.probes, 400, SEED)
    assert len({row["id"] for row in rows}) == len(rows) == 400
    for row in rows:
        assert len(set(row["questions"])) == probing.PARAPHRASES
        assert all(declines(text, row["language"]) for text in row["declines"])
        assert "reply" not in row  # the model's own right answer is taught
    named = {row["subject"] for row in rows}
    assert named & {b.id for b in others}
    assert not named & {b.id for b in halves[1]}


def test_strangers_share_no_name_with_the_world(world: list[Bridge]) -> None:
    others = strangers(load_bridges(), world)
    ours = {name.lower() for bridge in world for name in bridge.names.values()}
    theirs = [name.lower() for bridge in others for name in bridge.names.values()]
    assert len(others) > 300
    assert not [n for n in theirs if any(n in o or o in n for o in ours)]


def test_everything_repeats_from_the_seed(
    halves: tuple[list[Bridge], list[Bridge]], names: Invented
) -> None:
    taught = halves[0]
    source = PairSource(who="train", bridges=taught, invented=names.sft)
    for write in (
        lambda seed: preferences.write_preferences(source, 60, seed),
        lambda seed: calculations.write_calculations(taught, names.sft, 3, 5, seed),
        lambda seed: calculations.write_prompts(taught, names.sft, 3, seed),
        lambda seed: fact_prompts.write_fact_prompts(taught, names.sft, 40, seed),
        lambda seed: requests.write_howtos(taught, 40, seed),
        lambda seed: calculations.write_practice(20, seed),
        lambda seed: probing.write_probes(taught, [], names.probes, 60, seed),
    ):
        assert write(1) == write(1)
        assert write(1) != write(2)
