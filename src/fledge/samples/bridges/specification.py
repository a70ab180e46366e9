"""The bridge design specification: ``spec/`` in, a checked ``Specification`` out.

The text is ours and teaches only: a fictional code, the Fledge Bridge Design Specification
(FBDS), with its materials, beams, piers, sections and requirements as a small graph.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources.abc import Traversable
from typing import Any

from fledge.samples.bridges.phrases import LANGUAGES
from fledge.samples.bridges.specification_graph import (
    RELATIONS,
    REQUIREMENT,
    THINGS,
    Clause,
    Entity,
    Relation,
    Specification,
)
from fledge.samples.bridges.specification_wording import (
    load_words,
    read_toml,
    shipped,
    spoken_value,
)


def load_specification(folder: Traversable | None = None) -> Specification:
    """The specification in ``folder`` (default: the shipped ``spec/``), checked.

    Raises ValueError naming file, key and value.
    """
    folder = folder or shipped()
    entities = _entities(read_toml(folder, "entities.toml"))
    tables = read_toml(folder, "clauses.toml")
    headings = _headings(tables)
    clauses = _clauses(tables, entities, headings)
    for clause in clauses:
        if clause.requirement:
            first = {lang: _first_sentence(text) for lang, text in clause.text.items()}
            entities[clause.requirement] = replace(entities[clause.requirement], text=first)
    relations = _relations(folder, entities)
    return Specification(entities, relations, clauses, headings)


def _entities(table: dict[str, Any]) -> dict[str, Entity]:
    """id -> entity; a requirement gets its text later, from its clause."""
    entities: dict[str, Entity] = {}
    for row in table.get("entity", []):
        entity = _entity(row)
        if entity.id in entities:
            raise ValueError(f"entities.toml: id {entity.id!r} stands twice; rename or remove one")
        entities[entity.id] = entity
    _refuse_twins(entities.values())
    return entities


def _entity(row: dict[str, Any]) -> Entity:
    """One checked [[entity]]."""
    id_, kind = row.get("id"), row.get("kind")
    where = f"entities.toml: {id_}"
    if not id_ or kind not in THINGS | {REQUIREMENT}:
        raise ValueError(f"{where}: kind {kind!r} is not one of {sorted(THINGS | {REQUIREMENT})}")
    properties = dict(row.get("properties", {}))
    known = load_words("en")
    for key in properties:
        if key not in ({"clause", "value", "unit"} if kind == REQUIREMENT else known.labels):
            raise ValueError(f"{where}: property {key!r} is unknown for a {kind}")
    if kind == REQUIREMENT and "clause" not in properties:
        raise ValueError(f"{where}: has no clause; a requirement names the clause that states it")
    if properties.get("unit", "none") not in known.units:
        raise ValueError(f"{where}: unit {properties['unit']!r} is unknown")
    text = {} if kind == REQUIREMENT else _texts(where, row, "text")
    return Entity(id_, kind, _texts(where, row, "name"), text, properties)


def _texts(where: str, row: dict[str, Any], key: str) -> dict[str, str]:
    """The three languages of ``key``."""
    texts = dict(row.get(key, {}))
    for language in LANGUAGES:
        if not texts.get(language):
            raise ValueError(f"{where}: {key}.{language} is missing")
    return texts


def _refuse_twins(entities: Iterable[Entity]) -> None:
    """Refuses a name that two entities share: questions about it would be ambiguous."""
    met: dict[tuple[str, str], str] = {}
    for entity in entities:
        for language in LANGUAGES:
            name = entity.name[language].lower()
            other = met.setdefault((language, name), entity.id)
            if other != entity.id:
                raise ValueError(f"entities.toml: {entity.id}, {other}: both are named {name!r}")


def _headings(table: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Number of a chapter or section -> its titles."""
    rows = [(str(row.get("number")), row) for row in table.get("heading", [])]
    return {number: _texts(f"clauses.toml: {number}", row, "title") for number, row in rows}


def _clauses(
    table: dict[str, Any], entities: Mapping[str, Entity], headings: Mapping[str, object]
) -> tuple[Clause, ...]:
    """Clauses in the order of the file, with the values of their requirements."""
    stated = _requirement_of_clause(entities)
    clauses: dict[str, Clause] = {}
    for row in table.get("clause", []):
        number = str(row.get("number"))
        where = f"clauses.toml: {number}"
        parts = number.split(".")
        if len(parts) != 3 or ".".join(parts[:2]) not in headings or parts[0] not in headings:
            raise ValueError(f"{where}: has no heading for its chapter and section")
        if number in clauses:
            raise ValueError(f"{where}: stands twice; renumber or remove one")
        requirement = stated.pop(number, None)
        texts = _texts(where, row, "text")
        filled = {lang: _with_value(where, texts[lang], requirement, lang) for lang in LANGUAGES}
        clauses[number] = Clause(number, filled, requirement.id if requirement else None)
    for number, requirement in stated.items():
        raise ValueError(f"entities.toml: {requirement.id}: clause {number} is not in clauses.toml")
    return tuple(clauses.values())


def _requirement_of_clause(entities: Mapping[str, Entity]) -> dict[str, Entity]:
    """Clause number -> the requirement it states."""
    stated: dict[str, Entity] = {}
    for entity in entities.values():
        if entity.kind == REQUIREMENT:
            other = stated.setdefault(str(entity.properties["clause"]), entity)
            if other is not entity:
                number = entity.properties["clause"]
                raise ValueError(f"entities.toml: {entity.id}, {other.id}: both in clause {number}")
    return stated


def _with_value(where: str, text: str, requirement: Entity | None, language: str) -> str:
    """``text`` with {value} filled in; a value must stand in the first sentence, once."""
    valued = requirement is not None and "value" in requirement.properties
    if text.count("{value}") != int(valued) or (valued and "{value}" not in _first_sentence(text)):
        raise ValueError(f"{where}: text.{language} must hold {{value}} {int(valued)} times")
    if requirement is None or not valued:
        return text
    return text.replace("{value}", spoken_value(requirement, "value", language))


def _first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, '。' or '. '."""
    return re.split(r"(?<=。)|(?<=\.) ", text, maxsplit=1)[0]


def _relations(folder: Traversable, entities: Mapping[str, Entity]) -> tuple[Relation, ...]:
    """The checked rows of relations.tsv."""
    file = folder.joinpath("relations.tsv")
    if not file.is_file():
        raise ValueError(f"relations.tsv: is missing in {folder}")
    rows = list(csv.reader(file.read_text("utf-8").splitlines(), delimiter="\t",
                           quoting=csv.QUOTE_NONE))  # fmt: skip
    if not rows or rows[0] != ["subject", "relation", "object"]:
        raise ValueError("relations.tsv: the first line must hold subject, relation, object")
    relations: dict[Relation, int] = {}
    for line, cells in enumerate(rows[1:], start=2):
        if len(cells) != 3:
            raise ValueError(f"relations.tsv:{line}: {len(cells)} cells, 3 wanted")
        relation = Relation(*cells)
        _check_relation(f"relations.tsv:{line}", relation, entities)
        if relation in relations:
            raise ValueError(f"relations.tsv:{line}: repeats line {relations[relation]}")
        relations[relation] = line
    _check_inverse(relations)
    return tuple(relations)


def _check_relation(where: str, relation: Relation, entities: Mapping[str, Entity]) -> None:
    """Refuses unknown relations, unknown ends and ends of the wrong kind."""
    if relation.relation not in RELATIONS:
        raise ValueError(f"{where}: {relation.relation!r} is not one of {', '.join(RELATIONS)}")
    ends = (relation.subject, relation.object)
    for id_, kinds in zip(ends, RELATIONS[relation.relation], strict=True):
        if id_ not in entities:
            raise ValueError(f"{where}: {id_!r} is no entity")
        if entities[id_].kind not in kinds:
            raise ValueError(
                f"{where}: {id_!r} is a {entities[id_].kind}; {relation.relation} wants one of "
                f"{', '.join(sorted(kinds))} there"
            )


def _check_inverse(relations: Mapping[Relation, int]) -> None:
    """Refuses a MEETS without its APPLIES_TO, and the other way round."""
    inverse = {"MEETS": "APPLIES_TO", "APPLIES_TO": "MEETS"}
    for relation, line in relations.items():
        name = inverse.get(relation.relation)
        if name and Relation(relation.object, name, relation.subject) not in relations:
            row = f"{relation.object} {name} {relation.subject}"
            raise ValueError(f"relations.tsv:{line}: has no inverse; add {row}")
