"""The bridge design specification as a small graph: entities, relations between them, clauses."""

from collections.abc import Mapping
from dataclasses import dataclass

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
