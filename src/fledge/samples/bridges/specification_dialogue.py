"""Conversations on one half of the specification and exam questions on the other."""

import random
from collections.abc import Sequence
from typing import Any

from fledge.samples.bridges.phrases import fill
from fledge.samples.bridges.specification import load_specification
from fledge.samples.bridges.specification_facts import Fact, facts_of, say
from fledge.samples.bridges.specification_graph import REQUIREMENT, THINGS, Specification
from fledge.samples.bridges.specification_wording import Words, load_words

_MOST_OBJECTS = 4
"""longest list that an answer in a conversation enumerates"""


def write_spec_conversations(language: str, seed: int) -> list[dict[str, Any]]:
    """Questions in ``chat`` wordings with full-sentence answers, on the taught half.

    One conversation per fact, and one of two or three turns per entity with several facts.
    Answers never list more than a few things: long lists are for pages.
    """
    specification, words = load_specification(), load_words(language)
    rng = random.Random(f"spec-conversations/{language}/{seed}")
    records = []
    for id_ in sorted(taught_ids(specification)):
        facts = facts_of(specification, specification.entities[id_], words)
        facts = [fact for fact in facts if len(fact.objects) <= _MOST_OBJECTS]
        records += [_conversation([fact], words, rng) for fact in facts]
        if len(facts) > 1:
            several = rng.sample(facts, min(len(facts), rng.randint(2, 3)))
            records.append(_conversation(several, words, rng))
    rng.shuffle(records)
    return records


def write_spec_questions(language: str, seed: int) -> list[dict[str, Any]]:
    """Questions in ``exam`` wordings on the other half; the target is one value or one name.

    Left out are lists, rules without a value, wordings that hold their own target, and the tie
    of a requirement to a taught entity, which conversations tell.
    """
    specification, words = load_specification(), load_words(language)
    rng = random.Random(f"spec-questions/{language}/{seed}")
    taught = taught_ids(specification)
    records = []
    for id_ in sorted(set(specification.entities) - taught):
        for fact in facts_of(specification, specification.entities[id_], words):
            if not _askable(fact, taught):
                continue
            asked = [fill(t, language, fact.fields) for t in words.facts[fact.wording]["exam"]]
            asked = [question for question in asked if fact.target.lower() not in question.lower()]
            if asked:
                records.append(_question(fact, rng.choice(asked), language))
    return records


def taught_ids(specification: Specification) -> frozenset[str]:
    """Ids that conversations may teach: every second entity of each kind; the others are asked.

    No seed: whatever the seeds of conversations and questions, the halves stay apart.
    """
    taught: set[str] = set()
    for kind in (*sorted(THINGS), REQUIREMENT):
        taught.update([e.id for e in specification.entities.values() if e.kind == kind][::2])
    return frozenset(taught)


def _askable(fact: Fact, taught: frozenset[str]) -> bool:
    """Whether ``fact`` has one answer that no conversation tells."""
    if fact.wording == "rule" or len(fact.objects) > 1:
        return False
    return fact.wording not in ("MEETS", "APPLIES_TO") or fact.objects[0] not in taught


def _conversation(facts: Sequence[Fact], words: Words, rng: random.Random) -> dict[str, Any]:
    """One record, a turn per fact."""
    messages = []
    for fact in facts:
        messages.append({"role": "user", "content": say(fact, "chat", words, rng)})
        messages.append({"role": "assistant", "content": say(fact, "answer", words, rng)})
    metadata = {
        "kind": "spec",
        "language": words.language,
        "bridge": None,
        "subject": facts[0].subject,
        "attribute": "+".join(fact.attribute for fact in facts),
    }
    return {"messages": messages, "metadata": metadata}


def _question(fact: Fact, question: str, language: str) -> dict[str, Any]:
    """One record of an evaluation set."""
    return {
        "id": f"spec/{language}/{fact.subject}/{fact.attribute}",
        "input": [{"role": "user", "content": question}],
        "target": fact.target,
        "metadata": {
            "set": "spec",
            "language": language,
            "attribute": fact.attribute,
            "bridge": None,
            "rivals": [],
        },
    }
