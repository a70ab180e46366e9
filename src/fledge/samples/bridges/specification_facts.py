"""What the specification says of an entity, each fact ready to be stated, asked and answered."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fledge.samples.bridges.phrases import fill
from fledge.samples.bridges.specification_graph import (
    RELATIONS,
    REQUIREMENT,
    Entity,
    Specification,
)
from fledge.samples.bridges.specification_wording import Words, spoken_value

_QUANTITIES = {
    "mm": "length", "m": "length", "um": "length", "MPa": "stress", "kN": "load", "kN_m": "load",
    "kN_m2": "load", "kN_m3": "density", "kg_m3": "density", "J": "energy", "kJ": "energy",
    "C": "temperature", "degrees": "angle", "rad": "angle", "years": "time", "days": "time",
    "twists": "count",
}  # fmt: skip
"""unit -> kind of requirement; the other units are ratios, a value such as C30 is a grade"""


@dataclass(frozen=True)
class Fact:
    """Something that can be stated and asked: ``fields`` fill the templates of ``wording``."""

    subject: str
    attribute: str
    wording: str
    target: str
    fields: Mapping[str, str]
    objects: tuple[str, ...] = ()
    """ids that the answer lists, for a relation"""


def facts_of(specification: Specification, entity: Entity, words: Words) -> list[Fact]:
    """All that the specification says of ``entity``, from it outwards."""
    own = _requirement_facts if entity.kind == REQUIREMENT else _property_facts
    facts = own(entity, words)
    for relation in RELATIONS:
        objects = specification.objects(entity.id, relation)
        if objects:
            facts.append(relation_fact(entity, relation, objects, words))
    return facts


def _requirement_facts(entity: Entity, words: Words) -> list[Fact]:
    """Its value (or its rule, where it has none) and its clause."""
    clause = str(entity.properties["clause"])
    fields = {"subject": words.mention(entity), "clause": clause}
    wording, answer, attribute = "rule", entity.text[words.language], "rule"
    if "value" in entity.properties:
        wording, answer = "value", spoken_value(entity, "value", words.language)
        attribute = _quantity(entity)
    return [
        Fact(entity.id, attribute, wording, answer, fields | {"answer": answer}),
        Fact(entity.id, "clause", "clause", clause, fields | {"answer": clause}),
    ]


def _quantity(entity: Entity) -> str:
    """Kind of a requirement with a value: 'length', 'load', 'grade', 'ratio' and so on."""
    if str(entity.properties["value"])[0].isalpha():
        return "grade"
    return _QUANTITIES.get(str(entity.properties.get("unit", "none")), "ratio")


def _property_facts(entity: Entity, words: Words) -> list[Fact]:
    """Strength, modulus, largest span and the like."""
    facts = []
    for key in entity.properties:
        answer = spoken_value(entity, key, words.language)
        fields = {"subject": words.mention(entity), "label": words.labels[key], "answer": answer}
        facts.append(Fact(entity.id, key, "property", answer, fields))
    return facts


def relation_fact(entity: Entity, relation: str, objects: Sequence[Entity], words: Words) -> Fact:
    """``entity`` and everything ``relation`` ties to it."""
    fields = {
        "subject": words.mention(entity),
        "answer": words.join([words.mention(other) for other in objects]),
        "clause": str(entity.properties.get("clause", "")),
    }
    target = words.join([other.name[words.language] for other in objects])
    ids = tuple(other.id for other in objects)
    return Fact(entity.id, relation, relation, target, fields, ids)


def say(fact: Fact, use: str, words: Words, rng: random.Random) -> str:
    """``fact`` in one wording."""
    return fill(rng.choice(words.facts[fact.wording][use]), words.language, fact.fields)
