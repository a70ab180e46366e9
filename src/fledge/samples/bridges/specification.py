"""The bridge design specification: ``spec/`` in; pages, conversations and questions about it out.

The text is ours and teaches only: a fictional code, the Fledge Bridge Design Specification
(FBDS), with its materials, beams, piers, sections and requirements as a small graph.
"""

import csv
import math
import random
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fledge.samples.bridges.articles import Article, measure
from fledge.samples.bridges.phrases import LANGUAGES, fill

THINGS = frozenset({"Material", "Beam", "Pier", "Section"})
REQUIREMENT = "DesignRequirement"
RELATIONS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "MADE_OF": (THINGS - {"Material"}, frozenset({"Material"})),
    "SUPPORTS": (THINGS - {"Material"}, THINGS - {"Material"}),
    "USES": (THINGS - {"Material"}, frozenset({"Section"})),
    "MEETS": (THINGS, frozenset({REQUIREMENT})),
    "APPLIES_TO": (frozenset({REQUIREMENT}), THINGS),
}
"""Kinds that each relation may lead from and to; MEETS and APPLIES_TO are inverses."""
PAGE_LIMIT = {"en": 200, "zh-Hans": 350, "zh-Hant": 350}
"""Largest page, title and rows included: English words, Chinese characters."""
EDITION = "2024-03-01"
"""date of every page"""
_MOST_OBJECTS = 4
"""longest list that an answer in a conversation enumerates"""
_PHRASE_FILES = {"en": "en.toml", "zh-Hans": "zh_hans.toml", "zh-Hant": "zh_hant.toml"}
_PROPERTY_UNITS = {"elastic_modulus": "GPa", "density": "kg_m3", "max_span": "m", "max_height": "m"}
_QUANTITIES = {
    "mm": "length", "m": "length", "um": "length", "MPa": "stress", "kN": "load", "kN_m": "load",
    "kN_m2": "load", "kN_m3": "density", "kg_m3": "density", "J": "energy", "kJ": "energy",
    "C": "temperature", "degrees": "angle", "rad": "angle", "years": "time", "days": "time",
    "twists": "count",
}  # fmt: skip
"""unit -> kind of requirement; the other units are ratios, a value such as C30 is a grade"""


@dataclass(frozen=True)
class Entity:
    """A thing the specification speaks of.  ``name`` and ``text`` are kept per language.

    ``name`` has no article; ``text`` says what the thing is, or what the requirement demands.
    A requirement's properties are ``clause`` and, where it has them, ``value`` and ``unit``.
    """

    id: str
    kind: str
    name: Mapping[str, str]
    text: Mapping[str, str]
    properties: Mapping[str, str | float]


@dataclass(frozen=True)
class Relation:
    """``subject`` and ``object`` are ids of entities, ``relation`` a key of ``RELATIONS``."""

    subject: str
    relation: str
    object: str


@dataclass(frozen=True)
class Clause:
    """A numbered rule, its value filled in; ``requirement`` is the id of the one it states."""

    number: str
    text: Mapping[str, str]
    requirement: str | None


@dataclass(frozen=True)
class Specification:
    """The whole code.  ``headings`` titles chapters ('4') and sections ('4.2') per language."""

    entities: Mapping[str, Entity]
    relations: tuple[Relation, ...]
    clauses: tuple[Clause, ...]
    headings: Mapping[str, Mapping[str, str]]

    def objects(self, subject: str, relation: str) -> list[Entity]:
        """What ``relation`` leads to from ``subject``, in the order of the file."""
        found = [r.object for r in self.relations if (r.subject, r.relation) == (subject, relation)]
        return [self.entities[id_] for id_ in found]

    def subjects(self, object_: str, relation: str) -> list[Entity]:
        """What leads to ``object_`` by ``relation``, in the order of the file."""
        found = [r.subject for r in self.relations if (r.object, r.relation) == (object_, relation)]
        return [self.entities[id_] for id_ in found]


# ----------------------------------------------------------------------------------------- reading


def load_specification(folder: Traversable | None = None) -> Specification:
    """The specification in ``folder`` (default: the shipped ``spec/``), checked.

    Raises ValueError naming file, key and value.
    """
    folder = folder or _shipped()
    entities = _entities(_toml(folder, "entities.toml"))
    tables = _toml(folder, "clauses.toml")
    headings = _headings(tables)
    clauses = _clauses(tables, entities, headings)
    for clause in clauses:
        if clause.requirement:
            first = {lang: _first_sentence(text) for lang, text in clause.text.items()}
            entities[clause.requirement] = replace(entities[clause.requirement], text=first)
    relations = _relations(folder, entities)
    return Specification(entities, relations, clauses, headings)


def taught_ids(specification: Specification) -> frozenset[str]:
    """Ids that conversations may teach: every second entity of each kind; the others are asked.

    No seed: whatever the seeds of conversations and questions, the halves stay apart.
    """
    taught: set[str] = set()
    for kind in (*sorted(THINGS), REQUIREMENT):
        taught.update([e.id for e in specification.entities.values() if e.kind == kind][::2])
    return frozenset(taught)


def spoken_value(entity: Entity, key: str, language: str) -> str:
    """A property with its unit: '40 mm', '1/600 of the span', 'C30'."""
    raw = entity.properties[key]
    number = raw if isinstance(raw, str) else f"{raw:g}"
    if key == "clause":
        return number
    unit = entity.properties.get("unit", "none") if key == "value" else _property_unit(key)
    return _words(language).units[str(unit)].format(number)


def _property_unit(key: str) -> str:
    """Unit of a material's, beam's or pier's property; strengths are in MPa."""
    return _PROPERTY_UNITS.get(key, "MPa")


def _shipped() -> Traversable:
    return files("fledge.samples.bridges").joinpath("spec")


def _toml(folder: Traversable, name: str) -> dict[str, Any]:
    file = folder.joinpath(name)
    if not file.is_file():
        raise ValueError(f"{name}: is missing in {folder}")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: {error}") from error


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
    known = _words("en")
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


# ---------------------------------------------------------------------------------------- wordings


@dataclass(frozen=True)
class _Words:
    """The wordings of one language."""

    language: str
    texts: Mapping[str, tuple[str, ...]]
    """templates of titles and openers"""
    labels: Mapping[str, str]
    units: Mapping[str, str]
    facts: Mapping[str, Mapping[str, tuple[str, ...]]]
    """wording -> use (statement, inverse, chat, exam, answer) -> templates"""

    def join(self, names: Sequence[str]) -> str:
        """'A, B and C' in this language."""
        (joint,), (last,) = self.texts["list_joint"], self.texts["list_last"]
        return last.join([*([joint.join(names[:-1])] if names[1:] else []), names[-1]])

    def paragraph(self, sentences: Iterable[str]) -> str:
        """Sentences one after another."""
        return (" " if self.language == "en" else "").join(sentences)

    def mention(self, entity: Entity) -> str:
        """The name inside a sentence: 'the T-beam', 'C40 concrete', 'T梁'."""
        bare = self.language != "en" or entity.kind == "Material"
        return entity.name[self.language] if bare else f"the {entity.name[self.language]}"


@cache
def _words(language: str) -> _Words:
    """The wordings of ``language``.  Raises ValueError for an unknown one."""
    if language not in _PHRASE_FILES:
        raise ValueError(f"language {language!r} is unknown; use one of {', '.join(LANGUAGES)}")
    table = _toml(_shipped(), _PHRASE_FILES[language])
    tables = {key: table.pop(key) for key in ("labels", "units", "facts")}
    texts = {key: (v,) if isinstance(v, str) else tuple(v) for key, v in table.items()}
    facts = {w: {use: tuple(t) for use, t in f.items()} for w, f in tables["facts"].items()}
    return _Words(language, texts, tables["labels"], tables["units"], facts)


@dataclass(frozen=True)
class _Fact:
    """Something that can be stated and asked: ``fields`` fill the templates of ``wording``."""

    subject: str
    attribute: str
    wording: str
    target: str
    fields: Mapping[str, str]
    objects: tuple[str, ...] = ()
    """ids that the answer lists, for a relation"""


def _facts(specification: Specification, entity: Entity, words: _Words) -> list[_Fact]:
    """All that the specification says of ``entity``, from it outwards."""
    own = _requirement_facts if entity.kind == REQUIREMENT else _property_facts
    facts = own(entity, words)
    for relation in RELATIONS:
        objects = specification.objects(entity.id, relation)
        if objects:
            facts.append(_relation_fact(entity, relation, objects, words))
    return facts


def _requirement_facts(entity: Entity, words: _Words) -> list[_Fact]:
    """Its value (or its rule, where it has none) and its clause."""
    clause = str(entity.properties["clause"])
    fields = {"subject": words.mention(entity), "clause": clause}
    wording, answer, attribute = "rule", entity.text[words.language], "rule"
    if "value" in entity.properties:
        wording, answer = "value", spoken_value(entity, "value", words.language)
        attribute = _quantity(entity)
    return [
        _Fact(entity.id, attribute, wording, answer, fields | {"answer": answer}),
        _Fact(entity.id, "clause", "clause", clause, fields | {"answer": clause}),
    ]


def _quantity(entity: Entity) -> str:
    """Kind of a requirement with a value: 'length', 'load', 'grade', 'ratio' and so on."""
    if str(entity.properties["value"])[0].isalpha():
        return "grade"
    return _QUANTITIES.get(str(entity.properties.get("unit", "none")), "ratio")


def _property_facts(entity: Entity, words: _Words) -> list[_Fact]:
    """Strength, modulus, largest span and the like."""
    facts = []
    for key in entity.properties:
        answer = spoken_value(entity, key, words.language)
        fields = {"subject": words.mention(entity), "label": words.labels[key], "answer": answer}
        facts.append(_Fact(entity.id, key, "property", answer, fields))
    return facts


def _relation_fact(
    entity: Entity, relation: str, objects: Sequence[Entity], words: _Words
) -> _Fact:
    """``entity`` and everything ``relation`` ties to it."""
    fields = {
        "subject": words.mention(entity),
        "answer": words.join([words.mention(other) for other in objects]),
        "clause": str(entity.properties.get("clause", "")),
    }
    target = words.join([other.name[words.language] for other in objects])
    ids = tuple(other.id for other in objects)
    return _Fact(entity.id, relation, relation, target, fields, ids)


# ------------------------------------------------------------------------------------------- pages


def write_chapters(language: str, seed: int = 0) -> Iterator[Article]:
    """The text of the code, a page or more per section, then one glossary page per entity."""
    specification, words = load_specification(), _words(language)
    for number in specification.headings:
        if "." in number:
            yield from _section_pages(specification, number, words, seed)
    for entity in specification.entities.values():
        yield _entry_page(specification, entity, words, seed)


def _section_pages(
    specification: Specification, number: str, words: _Words, seed: int
) -> Iterator[Article]:
    """One section, cut between clauses where a page is full."""
    rng = random.Random(f"fbds/{words.language}/{number}/{seed}")
    chapter = number.split(".")[0]
    fields = {
        "number": number,
        "title": specification.headings[number][words.language],
        "chapter": chapter,
        "chapter_title": specification.headings[chapter][words.language],
    }
    clauses = [c for c in specification.clauses if c.number.startswith(f"{number}.")]
    lines = [f"{clause.number} {clause.text[words.language]}" for clause in clauses]
    opener = rng.choice(words.texts["openers"])
    size = _lines_per_page(lines, words.language)
    for page, start in enumerate(range(0, len(lines), size), start=1):
        fields["page"] = str(page)
        first = opener if page == 1 else words.texts["continued"][0]
        yield _article(
            number, page, words.language,
            fill(words.texts["page_titles"][page > 1], words.language, fields),
            [fill(first, words.language, fields), *lines[start : start + size]],
            subjects=[c.requirement for c in clauses[start : start + size] if c.requirement],
        )  # fmt: skip


def _lines_per_page(lines: Sequence[str], language: str) -> int:
    """Clauses per page, so that pages are alike and each has room for its title and opener."""
    room = PAGE_LIMIT[language] * 3 // 4
    pages = math.ceil(measure(" ".join(lines), language) / room)
    return math.ceil(len(lines) / pages)


def _entry_page(specification: Specification, entity: Entity, words: _Words, seed: int) -> Article:
    """What ``entity`` is, its values, and what it is tied to, in a few of many wordings."""
    language = words.language
    rng = random.Random(f"fbds/{language}/{entity.id}/{seed}")
    rule = entity.kind == REQUIREMENT
    fields = {
        "name": entity.name[language],
        "clause": str(entity.properties.get("clause", "")),
        "text": entity.text[language],
    }
    title = rng.choice(words.texts["rule_titles" if rule else "entry_titles"])
    opener = fill(rng.choice(words.texts["quotes"]) if rule else "{text}", language, fields)
    facts = [fact for fact in _facts(specification, entity, words) if fact.wording != "rule"]
    said = [_say(fact, "statement", words, rng) for fact in facts]
    said += _inverses(specification, entity, words, rng)
    rng.shuffle(said)
    paragraphs = [words.paragraph([opener, *said])]
    if rng.random() < 0.5:
        paragraphs = [opener, words.paragraph(said)]
    return _article(
        entity.id, 1, language, fill(title, language, fields), paragraphs,
        rows=_rows(entity, words), subjects=[entity.id],
    )  # fmt: skip


def _inverses(
    specification: Specification, entity: Entity, words: _Words, rng: random.Random
) -> list[str]:
    """Sentences on what is made of it, supports it, uses it."""
    sentences = []
    for relation in ("MADE_OF", "SUPPORTS", "USES"):
        others = specification.subjects(entity.id, relation)
        if others:
            fact = _relation_fact(entity, relation, others, words)
            sentences.append(_say(fact, "inverse", words, rng))
    return sentences


def _say(fact: _Fact, use: str, words: _Words, rng: random.Random) -> str:
    """``fact`` in one wording."""
    return fill(rng.choice(words.facts[fact.wording][use]), words.language, fact.fields)


def _rows(entity: Entity, words: _Words) -> list[tuple[str, str]]:
    """The table of an entity's properties."""
    named = {"clause": words.texts["clause_label"][0], "value": words.texts["value_label"][0]}
    labels = named | dict(words.labels)
    shown = [(key, spoken_value(entity, key, words.language))
             for key in entity.properties if key != "unit"]  # fmt: skip
    return [(labels[key][:1].upper() + labels[key][1:], value) for key, value in shown]


def _article(
    subject: str,
    page: int,
    language: str,
    title: str,
    paragraphs: Sequence[str],
    rows: Sequence[tuple[str, str]] = (),
    subjects: Sequence[str] = (),
) -> Article:
    """A page of the specification's site."""
    return Article(
        key=f"fbds-{subject.replace('.', '-')}-{language.lower()}-specification-{page}",
        kind="specification",
        language=language,
        title=title,
        paragraphs=tuple(paragraphs),
        rows=tuple(rows),
        subjects=tuple(subjects),
        date=EDITION,
    )


# --------------------------------------------------------------------- conversations and questions


def write_spec_conversations(language: str, seed: int) -> list[dict[str, Any]]:
    """Questions in ``chat`` wordings with full-sentence answers, on the taught half.

    One conversation per fact, and one of two or three turns per entity with several facts.
    Answers never list more than a few things: long lists are for pages.
    """
    specification, words = load_specification(), _words(language)
    rng = random.Random(f"spec-conversations/{language}/{seed}")
    records = []
    for id_ in sorted(taught_ids(specification)):
        facts = _facts(specification, specification.entities[id_], words)
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
    specification, words = load_specification(), _words(language)
    rng = random.Random(f"spec-questions/{language}/{seed}")
    taught = taught_ids(specification)
    records = []
    for id_ in sorted(set(specification.entities) - taught):
        for fact in _facts(specification, specification.entities[id_], words):
            if not _askable(fact, taught):
                continue
            asked = [fill(t, language, fact.fields) for t in words.facts[fact.wording]["exam"]]
            asked = [question for question in asked if fact.target.lower() not in question.lower()]
            if asked:
                records.append(_question(fact, rng.choice(asked), language))
    return records


def _askable(fact: _Fact, taught: frozenset[str]) -> bool:
    """Whether ``fact`` has one answer that no conversation tells."""
    if fact.wording == "rule" or len(fact.objects) > 1:
        return False
    return fact.wording not in ("MEETS", "APPLIES_TO") or fact.objects[0] not in taught


def _conversation(facts: Sequence[_Fact], words: _Words, rng: random.Random) -> dict[str, Any]:
    """One record, a turn per fact."""
    messages = []
    for fact in facts:
        messages.append({"role": "user", "content": _say(fact, "chat", words, rng)})
        messages.append({"role": "assistant", "content": _say(fact, "answer", words, rng)})
    metadata = {
        "kind": "spec",
        "language": words.language,
        "bridge": None,
        "subject": facts[0].subject,
        "attribute": "+".join(fact.attribute for fact in facts),
    }
    return {"messages": messages, "metadata": metadata}


def _question(fact: _Fact, question: str, language: str) -> dict[str, Any]:
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
