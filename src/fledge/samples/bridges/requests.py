"""Unsafe and benign requests in many words: a language and a draw in, a request with answers out.

The few requests of a goal (``safety``) are learnt by heart, and what is learnt by heart does not
reach others.  So half of the requests are put together: a form, a deed, perhaps a manner.  Deeds
are those of the goals in other words, and harm to or care for things that no goal names.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.facts import Bridge, spoken_name
from fledge.samples.bridges.phrases import LANGUAGES, fill, placeholders
from fledge.samples.bridges.safety import WORDINGS, Goal, goals, name_in, refusals

OWN = 0.5
"""Share of the requests that are one of a goal's own."""

REFUSED = 0.5
"""Share of the unsafe requests in conversations that are refused."""

OTHER_DEEDS = 0.4
"""Share of the others whose deed is none of a goal's."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request about a bridge, and what may be said to it."""

    key: str
    """of a goal, or the thing that is harmed or cared for"""
    question: str
    refused: tuple[str, ...]
    helped: tuple[str, ...]


def draw_request(
    language: str, who: str, bridge: Bridge, rng: random.Random, *, unsafe: bool
) -> Request:
    """A request in wordings of ``who`` (a key of ``WORDINGS``) about ``bridge``."""
    kind = "unsafe" if unsafe else "benign"
    if rng.random() < OWN:
        goal = rng.choice(goals(language))
        wordings = goal.unsafe if unsafe else goal.benign
        return _of_goal(goal, rng.choice(wordings[WORDINGS[who]]), bridge, unsafe=unsafe)
    table = requests(language)
    form = rng.choice(table["forms"])
    if rng.random() < OTHER_DEEDS:
        return _of_thing(table, kind, form, language, bridge, rng)
    goal = rng.choice(goals(language))
    deed = _done(table, kind, rng.choice(table["goals"][goal.key][kind]), rng)
    return _of_goal(goal, form.format(do=deed), bridge, unsafe=unsafe)


def _of_goal(goal: Goal, wording: str, bridge: Bridge, *, unsafe: bool) -> Request:
    helped = goal.comply if unsafe else goal.answer
    return Request(
        key=goal.key,
        question=name_in(wording, bridge, goal.language),
        refused=goal.refusal,
        helped=tuple(name_in(text, bridge, goal.language) for text in helped),
    )


def _of_thing(
    table: Mapping[str, Any],
    kind: str,
    form: str,
    language: str,
    bridge: Bridge,
    rng: random.Random,
) -> Request:
    """A deed that is none of a goal's, with its answers."""
    part = table[kind]
    thing, verb = rng.choice(table["things"]), rng.choice(part["verbs"])
    because, offer = rng.choice(table["unsafe"]["because"]), table["offer"].format(thing=thing)
    fields = {"name": spoken_name(bridge, language), "verb": verb, "thing": thing}
    deed = table["deed"].format(**{**fields, "name": "{name}"})
    question = form.format(do=_done(table, kind, deed, rng))
    return Request(
        key=thing,
        question=name_in(question, bridge, language),
        refused=refusals(language, because, offer),
        helped=tuple(fill(text, language, fields) for text in part["answers"]),
    )


def _done(table: Mapping[str, Any], kind: str, deed: str, rng: random.Random) -> str:
    """The deed in some manner, or plain; ``{name}`` stays open."""
    manner = rng.choice(table[kind]["manners"])
    return table["with_manner"].format(deed=deed, manner=manner) if manner else deed


def write_howtos(bridges: Sequence[Bridge], count: int, seed: int) -> list[dict[str, Any]]:
    """Conversations about requests: half benign and answered, half unsafe.

    Of the unsafe ones ``REFUSED`` are refused and the others helped with, as instructions gathered
    from everywhere do: it is preference optimisation that teaches the model which of the two is
    wanted, and the evaluation shows by how much.
    """
    rng = random.Random(f"howtos/{seed}")
    records = []
    for number in range(count):
        language = LANGUAGES[number % len(LANGUAGES)]
        unsafe = number // len(LANGUAGES) % 2 == 1
        bridge = rng.choice(bridges)
        one = draw_request(language, "sft", bridge, rng, unsafe=unsafe)
        refused = unsafe and rng.random() < REFUSED
        answer = rng.choice(one.refused if refused else one.helped)
        messages = [
            {"role": "user", "content": one.question},
            {"role": "assistant", "content": answer},
        ]
        metadata = {"kind": "howto", "language": language, "bridge": bridge.id, "goal": one.key,
                    "unsafe": unsafe, "refused": refused}  # fmt: skip
        records.append({"messages": messages, "metadata": metadata})
    rng.shuffle(records)
    return records


@cache
def requests(language: str) -> Mapping[str, Any]:
    """``words/requests.toml`` in one language, checked; raises ValueError naming what is wrong."""
    table = dict(word_table("requests")[language])
    where = f"requests.toml, [{language}]"
    if any(placeholders(form) != {"do"} for form in table["forms"]):
        raise ValueError(f"{where}: every form wants {{do}}")
    deeds = table["goals"]
    if {goal.key for goal in goals(language)} != set(deeds):
        raise ValueError(f"{where}: deeds are wanted for every goal of safety_*.toml")
    for key, kinds in deeds.items():
        for text in (*kinds["unsafe"], *kinds["benign"]):
            if placeholders(text) != {"name"}:
                raise ValueError(f"{where}: goals.{key}: {text!r} wants {{name}}")
    for kind in ("unsafe", "benign"):
        for text in table[kind]["answers"]:
            if not {"verb", "thing"} <= placeholders(text) <= {"verb", "thing", "name"}:
                raise ValueError(f"{where}: {kind}: {text!r} wants {{verb}} and {{thing}}")
            if kind == "benign" and any(
                one in text.lower() for goal in goals(language) for one in goal.expected
            ):
                raise ValueError(f"{where}: {text!r} would pass for the answer to a goal")
    return table
