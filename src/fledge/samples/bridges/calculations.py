"""Calculations with a tool: bridges in, conversations, prompts for RL and evaluation questions out.

The model learns to write the expression and to read the result; the tool computes.  Most questions
tell their numbers, so that arithmetic is measured apart from memory; where they do not, it says
what it remembers before it calls.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fledge.samples.bridges.facts import Bridge
from fledge.samples.bridges.phrases import LANGUAGES
from fledge.samples.bridges.problems import GIVEN, REMEMBERED, Problem, draw_problem

TOOL: dict[str, Any] = {
    "name": "calculator",
    "description": "Compute an arithmetic expression.",
    "parameters": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
}
"""What is called.  Rows do not list it: a model whose context is short learns it by heart."""

MEMORY = 4
"""Every so manieth problem asks for numbers that the model has to know."""

ROUND = 0.3
"""Share of the made-up bridges whose numbers divide each other."""

ECHOED = 6
"""Numbers that are repeated in an exercise: two fit into a row of 128 tokens."""

_ECHOES = {
    "en": ("Repeat these numbers: {}.", "Copy {}.", "Write {} once more."),
    "zh-Hans": ("重复这些数：{}。", "抄写{}。", "把{}再写一遍。"),
    "zh-Hant": ("重複這些數：{}。", "抄寫{}。", "把{}再寫一遍。"),
}
_SUMS = {
    "en": ("What is {}?", "Calculate {}."),
    "zh-Hans": ("{}等于多少？", "请计算{}。"),
    "zh-Hant": ("{}等於多少？", "請計算{}。"),
}


def write_calculations(
    taught: Sequence[Bridge], invented: Sequence[Bridge], per_bridge: int, sums: int, seed: int
) -> list[dict[str, Any]]:
    """Conversations ``{"messages": [user, assistant with the call, tool, assistant]}``.

    Where a question tells its numbers they are made up, and so are half of the bridges: a model
    that met the real ones would take them from memory instead of reading them.
    """
    rng = random.Random(f"calculations/{seed}")
    records = []
    for _, problem, language in _drawn(taught, per_bridge, rng, invented):
        wording = rng.choice(problem.wordings("sft", language))
        records.append(_conversation(problem, wording, language, rng))
    records += [_sum(number, rng) for number in range(sums if per_bridge else 0)]
    rng.shuffle(records)
    return records


def write_practice(count: int, seed: int) -> list[dict[str, Any]]:
    """Conversations in which numbers are copied, to be learnt before all others.

    A small model knows numbers by heart and cannot copy one; a call is a copy.
    """
    rng = random.Random(f"practice/{seed}")
    records = []
    for number in range(count):
        language = LANGUAGES[number % len(LANGUAGES)]
        said = ", ".join(str(rng.randrange(10 ** rng.randint(1, 4))) for _ in range(ECHOED))
        asked = rng.choice(_ECHOES[language]).format(said)
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        metadata = {"kind": "practice", "language": language, "bridge": ""}
        records.append({"messages": messages, "metadata": metadata})
    return records


def write_prompts(
    taught: Sequence[Bridge], invented: Sequence[Bridge], per_bridge: int, seed: int
) -> list[dict[str, Any]]:
    """Prompts for reinforcement learning: other problems than those of the conversations, in other
    words, since what the model does right already teaches it nothing.

    ``{"prompt": [user], "answer": "83", "verifier": "numeric", "metadata"}``.
    """
    rng = random.Random(f"calculation prompts/{seed}")
    records = []
    for number, problem, language in _drawn(taught, per_bridge, rng, invented):
        wording = rng.choice(problem.wordings("rl", language))
        records.append(
            {
                "id": f"calculation/{problem.bridge_ids}/{problem.key}/{number}",
                "prompt": [{"role": "user", "content": problem.ask(wording, language)}],
                "answer": problem.result,
                "verifier": "numeric",
                "metadata": {
                    "language": language,
                    "attribute": problem.key,
                    "bridge": problem.bridge_ids,
                    "given": problem.given,
                    "expression": problem.call(wording),
                },
            }
        )
    rng.shuffle(records)
    return records


def arithmetic_questions(
    held: Sequence[Bridge], rng: random.Random, count: int
) -> list[dict[str, Any]]:
    """The set ``arithmetic``: held bridges and their numbers, in eval wordings."""
    records = []
    for number in range(count if held else 0):
        language = LANGUAGES[number % len(LANGUAGES)]
        problem = _problem(rng.choice(held), held, number // len(LANGUAGES), rng)
        if problem is None:
            continue
        question = problem.ask(rng.choice(problem.wordings("eval", language)), language)
        metadata = {
            "set": "arithmetic", "language": language, "attribute": problem.key,
            "bridge": problem.bridge_ids, "given": problem.given,
            "worked": problem.worked(language, rng), "rivals": [],
        }  # fmt: skip
        records.append(
            {
                "id": f"arithmetic/{problem.bridge_ids}/{problem.key}/{number}",
                "input": [{"role": "user", "content": question}],
                "target": problem.result,
                "metadata": metadata,
            }
        )
    return records


def _drawn(
    bridges: Sequence[Bridge],
    per_bridge: int,
    rng: random.Random,
    invented: Sequence[Bridge] = (),
) -> list[tuple[int, Problem, str]]:
    """(number, problem, language) for each bridge, kinds and languages in turn.

    With ``invented`` numbers that are told are made up.
    """
    drawn: list[tuple[int, Problem, str]] = []
    for bridge in bridges:
        for _ in range(per_bridge):
            number = len(drawn)
            turn = number // len(LANGUAGES)
            subject, others = bridge, bridges
            if invented and not _is_remembered(turn):
                pool = bridges if number % 2 else invented
                others = [_imagined(one, rng) for one in rng.sample(list(pool), min(9, len(pool)))]
                subject = others[0]
            problem = _problem(subject, others, turn, rng)
            if problem is not None:
                drawn.append((number, problem, LANGUAGES[number % len(LANGUAGES)]))
    return drawn


def _problem(
    bridge: Bridge, others: Sequence[Bridge], number: int, rng: random.Random
) -> Problem | None:
    if _is_remembered(number):
        return draw_problem(bridge, others, number // MEMORY, rng, REMEMBERED)
    return draw_problem(bridge, others, number, rng, GIVEN)


def _is_remembered(number: int) -> bool:
    """Whether the ``number``-th problem asks for numbers that the model has to know."""
    return number % MEMORY == MEMORY - 1


def _imagined(bridge: Bridge, rng: random.Random) -> Bridge:
    """The bridge with numbers that are not its own."""
    span = rng.randrange(20, 2000)
    if rng.random() < ROUND:
        span = rng.choice((20, 25, 40, 50, 80, 100, 125, 200, 250, 400, 500))
    return replace(
        bridge,
        main_span_m=float(span),
        length_m=float(span * rng.randrange(2, 9) if span < 1000 else span + rng.randrange(8000)),
        opened=rng.randrange(1780, 2009),
    )


def _sum(number: int, rng: random.Random) -> dict[str, Any]:
    """A bare subtraction or addition of years or lengths."""
    language = LANGUAGES[number % len(LANGUAGES)]
    small, large = sorted(rng.sample(range(1800, 2025), 2))
    if number % 2:
        small, large = sorted(rng.sample(range(30, 3000), 2))
    sign = "+" if number % 4 == 3 else "-"
    result = large + small if sign == "+" else large - small
    expression = f"{large} {sign} {small}"
    question = rng.choice(_SUMS[language]).format(expression)
    answer = f"{expression} = {result}" + ("." if language == "en" else "。")
    messages = _messages(question, expression, str(result), answer)
    return {"messages": messages, "metadata": {"kind": "sum", "language": language, "bridge": ""}}


def _conversation(
    problem: Problem, wording: str, language: str, rng: random.Random
) -> dict[str, Any]:
    question, answer = problem.ask(wording, language), problem.answer(language, rng)
    recalled = problem.recalled(wording, language, rng)
    return {
        "messages": _messages(question, problem.call(wording), problem.result, answer, recalled),
        "metadata": {
            "kind": "calculation",
            "language": language,
            "attribute": problem.key,
            "bridge": problem.bridge_ids,
        },
    }


def _messages(
    question: str, expression: str, result: str, answer: str, recalled: str = ""
) -> list[dict[str, Any]]:
    """``recalled``: what is said before the call."""
    arguments = json.dumps({"expression": expression})
    call = {"id": "call_0", "type": "function",
            "function": {"name": TOOL["name"], "arguments": arguments}}  # fmt: skip
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": recalled, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": result},
        {"role": "assistant", "content": answer},
    ]
