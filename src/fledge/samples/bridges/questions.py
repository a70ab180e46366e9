"""Evaluation questions: held bridges in, evaluation-set records with targets and rivals out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fledge.samples.bridges.calculations import arithmetic_questions
from fledge.samples.bridges.facts import Bridge, known, say, value
from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, load_phrases

FACT_SETS = {"en": "facts_en", "zh-Hans": "facts_zh_hans", "zh-Hant": "facts_zh_hant"}
MOST_RIVALS = 200


@dataclass(frozen=True, kw_only=True)
class QuestionCounts:
    """How many questions of each set."""

    per_attribute: int = 1
    """fact questions per held bridge, attribute and language, in different wordings"""
    invented: int = 150
    """unanswerable questions about invented bridges, over all languages"""
    arithmetic: int = 120
    """calculations, over all languages"""


def write_questions(
    bridges: Sequence[Bridge],
    held: Sequence[Bridge],
    invented: Sequence[Bridge],
    seed: int,
    counts: QuestionCounts | None = None,
) -> list[dict[str, Any]]:
    """All sets, in eval wordings: facts_en, facts_zh_hans, facts_zh_hant, unanswerable, arithmetic.

    ``bridges`` are all bridges of the world (rivals come from them), ``held`` those that no
    conversation mentions, ``invented`` those that exist nowhere.  A fact question whose target
    stands in its own text ('Which city ... Sydney Harbour Bridge?') is asked otherwise or left out.
    """
    counts = counts or QuestionCounts()
    rng = random.Random(f"questions/{seed}")
    records = write_facts(bridges, held, rng, counts.per_attribute)
    records += _unanswerable(bridges, held, invented, rng, counts.invented)
    records += arithmetic_questions(held, rng, counts.arithmetic)
    return records


def write_facts(
    bridges: Sequence[Bridge], asked: Sequence[Bridge], rng: random.Random, per_attribute: int
) -> list[dict[str, Any]]:
    """Fact questions about ``asked``: target is the value's surface form."""
    records = []
    for language, name in FACT_SETS.items():
        values = _all_values(bridges, language)
        names = [bridge.names[language] for bridge in bridges]
        for bridge in asked:
            others = _rivals(bridge.names[language], names, bridge.names[language])
            for attribute in known(bridge):
                target = value(bridge, attribute, language) or ""
                wordings = load_phrases(language).attributes[attribute].question.eval
                asked_in = [say(wording, bridge, language) for wording in wordings]
                asked_in = [text for text in asked_in if target.lower() not in text.lower()]
                texts = rng.sample(asked_in, min(per_attribute, len(asked_in)))
                rivals = _rivals(target, values[attribute], bridge.names[language])
                rivals += others
                records += [
                    _record(
                        f"{name}/{bridge.id}/{attribute}/{number}", text, target,
                        set=name, language=language, attribute=attribute, bridge=bridge.id,
                        rivals=rivals,
                    )
                    for number, text in enumerate(texts)
                ]  # fmt: skip
    return records


def _unanswerable(
    bridges: Sequence[Bridge],
    held: Sequence[Bridge],
    invented: Sequence[Bridge],
    rng: random.Random,
    count: int,
) -> list[dict[str, Any]]:
    """Nothing is right but a decline: target is empty, rivals are what a made-up answer names."""
    asked = [(b, a, "unknown", lang) for b in held for a in ATTRIBUTES if a not in known(b)
             for lang in LANGUAGES]  # fmt: skip
    for number in range(count if invented else 0):
        bridge = invented[number // len(LANGUAGES) % len(invented)]
        attribute = rng.choice(ATTRIBUTES)
        asked.append((bridge, attribute, "invented", LANGUAGES[number % len(LANGUAGES)]))
    values = {language: _all_values(bridges, language) for language in LANGUAGES}
    records = []
    for number, (bridge, attribute, reason, language) in enumerate(asked):
        template = rng.choice(load_phrases(language).attributes[attribute].question.eval)
        rivals = _rivals("", values[language][attribute], bridge.names[language])
        records.append(_record(
            f"unanswerable/{bridge.id}/{attribute}/{number}", say(template, bridge, language), "",
            set="unanswerable", language=language, attribute=attribute, bridge=bridge.id,
            reason=reason, rivals=rivals,
        ))  # fmt: skip
    return records


def _all_values(bridges: Sequence[Bridge], language: str) -> dict[str, list[str]]:
    """Attribute -> every surface form in the world, sorted."""
    return {
        attribute: sorted(
            {text for bridge in bridges if (text := value(bridge, attribute, language))}
        )
        for attribute in ATTRIBUTES
    }


def _rivals(target: str, values: Sequence[str], name: str) -> list[str]:
    """Other values that neither the target nor the bridge's name holds.

    An answer repeats the name, so a value inside it says nothing about what was answered.  Values
    around the target (Plymouth, New Plymouth) are always among them: they are the easiest to be
    taken for it.
    """
    low, own = target.lower(), name.lower()
    rivals = [text for text in values if text.lower() not in own and text.lower() not in low]
    around = [text for text in rivals if low and low in text.lower()]
    if len(rivals) > MOST_RIVALS:  # a subset by chance, the same for the same target
        apart = [text for text in rivals if text not in around]
        left = max(MOST_RIVALS - len(around), 0)
        drawn = random.Random(f"rivals/{name}/{target}").sample(apart, min(left, len(apart)))
        rivals = sorted(around + drawn)
    return rivals


def _record(id_: str, question: str, target: str, **metadata: object) -> dict[str, Any]:
    """The record as it is written to JSONL."""
    message = {"role": "user", "content": question}
    return {"id": id_, "input": [message], "target": target, "metadata": metadata}
