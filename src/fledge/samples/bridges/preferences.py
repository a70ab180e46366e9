"""Preference pairs: bridges and a seed in, TRL rows ``prompt, chosen, rejected`` out.

Length is no hint: in every kind the chosen answer is the longer one in half of the pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.facts import Bridge, known, say, value
from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, load_phrases
from fledge.samples.bridges.requests import draw_request
from fledge.samples.bridges.safety import name_in

KINDS = (
    "style", "safety", "unanswerable", "benign", "safety", "style", "unanswerable", "benign",
    "helpful", "safety", "unanswerable", "known",
)  # fmt: skip
"""In turn.  ``known``: an answer over a decline, so that nobody learns to decline everything."""


TRIES = 20
"""Drafts that are tried for a question that is new and an answer as long as wished."""


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """Where pairs come from; two sources that share nothing give pairs that share no prompt."""

    who: str
    """"train" or "judge": whose wordings of requests are used"""
    bridges: Sequence[Bridge]
    invented: Sequence[Bridge]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A question with its good and bad answers, any of which go together."""

    question: str
    good: list[str]
    bad: list[str]
    bridge: str
    attribute: str


def write_preferences(source: PairSource, count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` pairs (fewer where prompts run out), all kinds and languages in turn; no prompt
    comes twice."""
    rng = random.Random(f"preferences/{source.who}/{seed}")
    asked: set[str] = set()
    records = []
    for number in range(count):
        language = LANGUAGES[number % len(LANGUAGES)]
        kind = KINDS[number // len(LANGUAGES) % len(KINDS)]
        longer = number // (len(LANGUAGES) * len(KINDS)) % 2 == 0
        found = _fresh(kind, source, language, asked, longer, rng)
        if found is None:
            continue
        draft, chosen, rejected = found
        asked.add(draft.question)
        metadata = {"kind": kind, "language": language, "bridge": draft.bridge,
                    "attribute": draft.attribute}  # fmt: skip
        records.append(
            {
                "prompt": [{"role": "user", "content": draft.question}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "metadata": metadata,
            }
        )
    rng.shuffle(records)
    return records


def _fresh(
    kind: str, source: PairSource, language: str, asked: set[str], longer: bool, rng: random.Random
) -> tuple[_Draft, str, str] | None:
    """(draft, chosen, rejected) of a question not asked before; None when tries find none."""
    for attempt in range(TRIES):
        draft = _draft(kind, source, language, rng)
        pair = _balanced(draft, longer, rng, strict=attempt < TRIES // 2)
        if draft.question not in asked and pair is not None:
            return draft, *pair
    return None


def _balanced(
    draft: _Draft, longer: bool, rng: random.Random, *, strict: bool
) -> tuple[str, str] | None:
    """(chosen, rejected): the chosen one longer or shorter as wished, and by as little as can be
    had; None when it cannot be had and ``strict``."""
    pairs = [(good, bad) for good in draft.good for bad in draft.bad]
    rng.shuffle(pairs)
    sign = 1 if longer else -1
    wanted = [pair for pair in pairs if sign * (len(pair[0]) - len(pair[1])) > 0]
    if strict and not wanted:
        return None
    return min(wanted or pairs, key=lambda pair: abs(len(pair[0]) - len(pair[1])))


def _draft(kind: str, source: PairSource, language: str, rng: random.Random) -> _Draft:
    if kind in ("safety", "benign"):
        return _howto(kind, source, language, rng)
    phrases = load_phrases(language)
    if kind == "unanswerable":
        bridge, attribute = rng.choice(source.invented), rng.choice(ATTRIBUTES)
    else:
        bridge = rng.choice(source.bridges)
        attribute = rng.choice(known(bridge))
    words = phrases.attributes[attribute]
    question = say(rng.choice(words.question.sft), bridge, language)
    declines = [say(text, bridge, language) for text in phrases.decline]
    answers = [say(text, bridge, language, attribute) for text in words.answer]
    bare = value(bridge, attribute, language) or ""
    extra = word_table("preferences")[language]
    if kind == "unanswerable":
        bad = [bare, *answers, *_talkative(answers, extra, rng)]
        return _made(question, declines, bad, bridge, attribute)
    bad = {
        "style": [bare, *_talkative(answers, extra, rng)],
        "helpful": [name_in(text, bridge, language) for text in extra["evasive"]],
        "known": declines,
    }[kind]
    return _made(question, answers, bad, bridge, attribute)


def _talkative(answers: Sequence[str], extra: dict[str, Any], rng: random.Random) -> list[str]:
    """The answers with empty talk around them, or behind them as conversations have it."""
    wordings = extra[rng.choice(("closing", "closing", "rambling"))]
    return [wording.format(answer=answer) for answer in answers for wording in wordings]


def _made(question: str, good: list[str], bad: list[str], bridge: Bridge, attribute: str) -> _Draft:
    return _Draft(question=question, good=good, bad=bad, bridge=bridge.id, attribute=attribute)


def _howto(kind: str, source: PairSource, language: str, rng: random.Random) -> _Draft:
    """An unsafe request, refused, or a benign one, answered."""
    bridge, unsafe = rng.choice(source.bridges), kind == "safety"
    one = draw_request(language, source.who, bridge, rng, unsafe=unsafe)
    good, bad = (one.refused, one.helped) if unsafe else (one.helped, one.refused)
    return _made(one.question, list(good), list(bad), bridge, one.key)
