"""Wordings of the bridge world: ``phrases/*.toml`` in, one checked ``Phrases`` per language out."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

LANGUAGES = ("en", "zh-Hans", "zh-Hant")
ATTRIBUTES = (
    "place", "country", "crosses", "type", "material", "main_span_m", "length_m", "opened",
)  # fmt: skip
SINGLE_KINDS = ("entry", "news", "engineer", "travel", "faq", "infobox", "card")
"""Kinds of page about one bridge; ``compare`` is about two and ``roundup`` about several."""
_FILES = {"en": "en.toml", "zh-Hans": "zh_hans.toml", "zh-Hant": "zh_hant.toml"}


@dataclass(frozen=True)
class Questions:
    """Wordings of one question, by who asks.  No wording stands in two of the three."""

    web: tuple[str, ...]
    """on FAQ pages, about every bridge"""
    sft: tuple[str, ...]
    """in conversations, about the taught bridges"""
    eval: tuple[str, ...]
    """in evaluation sets only"""


@dataclass(frozen=True)
class AttributePhrases:
    """Everything said about one attribute.  Placeholders: {name} and {value}."""

    labels: tuple[str, ...]
    cell: str
    """how a table shows the value, with its unit"""
    answer: tuple[str, ...]
    statement: tuple[str, ...]
    question: Questions


@dataclass(frozen=True)
class KindPhrases:
    """Titles and first sentences (may be empty) of one kind of page."""

    titles: tuple[str, ...]
    openers: tuple[str, ...]


@dataclass(frozen=True)
class Calculation:
    """A subtraction in words.  {a} is the larger number, {b} the smaller, {d} = a - b."""

    sft: tuple[str, ...]
    eval: tuple[str, ...]
    answer: tuple[str, ...]


@dataclass(frozen=True)
class Smalltalk:
    """A group of remarks and their possible replies; no placeholders."""

    question: tuple[str, ...]
    answer: tuple[str, ...]


@dataclass(frozen=True)
class Phrases:
    """All wordings of one language."""

    language: str
    attributes: Mapping[str, AttributePhrases]
    combined: tuple[str, ...]
    """sentences that join two to four attributes by their names"""
    decline: tuple[str, ...]
    decline_markers: tuple[str, ...]
    """every decline holds one of these; no statement or answer does"""
    types: Mapping[str, str]
    materials: Mapping[str, str]
    kinds: Mapping[str, KindPhrases]
    comparison: Mapping[str, tuple[str, ...]]
    """per attribute; a is the older (opened) or the larger (span, length) bridge"""
    calculations: Mapping[str, Calculation]
    smalltalk: Mapping[str, Smalltalk]
    followups: tuple[str, ...]
    faq_marks: tuple[tuple[str, str], ...]
    list_joint: str
    list_last: str

    def join(self, names: Iterable[str]) -> str:
        """'A, B and C' in this language."""
        *head, last = names
        return self.list_joint.join(head) + self.list_last + last if head else last

    def page(self, sentences: Iterable[str]) -> str:
        """One paragraph from sentences, with a space between them where the language wants one."""
        return (" " if self.language == "en" else "").join(s for s in sentences if s)


@cache
def placeholders(template: str) -> frozenset[str]:
    """Names between braces in ``template``."""
    return frozenset(field for _, field, _, _ in Formatter().parse(template) if field)


def fill(template: str, language: str, fields: Mapping[str, str]) -> str:
    """``template`` with ``fields`` in place; English gets its capitals and 'an'."""
    text = template.format_map(fields)
    if language != "en":
        return text
    text = re.sub(r"\b([Aa]) (?=arch bridge)", r"\1n ", text)
    text = re.sub(r"([.?!] )the ", r"\1The ", text)
    return text[:1].upper() + text[1:]


@cache
def load_phrases(language: str) -> Phrases:
    """The wordings of ``language``, checked once.  Raises ValueError naming file and key."""
    if language not in _FILES:
        raise ValueError(f"language {language!r} is unknown; use one of {', '.join(LANGUAGES)}")
    file = files("fledge.samples.bridges").joinpath("phrases", _FILES[language])
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        phrases = _build(table)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{_FILES[language]}: {error}") from error
    if phrases.language != language:
        raise ValueError(f"{_FILES[language]}: language is {phrases.language!r}, not {language!r}")
    return phrases


def _build(table: dict[str, Any]) -> Phrases:
    """The dataclass from the parsed TOML; refuses wrong placeholders."""
    return Phrases(
        language=table["language"],
        attributes={a: _attribute(a, table["attribute"][a]) for a in ATTRIBUTES},
        combined=_combined(table["combined"]),
        decline=_checked("decline", table["decline"], {"name"}),
        decline_markers=tuple(table["decline_markers"]),
        types=dict(table["types"]),
        materials=dict(table["materials"]),
        kinds=_kinds(table["kind"]),
        comparison={
            a: _checked(f"comparison.{a}", table["comparison"][a], {"name_a", "name_b", "a", "b"})
            for a in ATTRIBUTES
        },
        calculations={key: _calculation(key, t) for key, t in table["calculation"].items()},
        smalltalk={
            key: Smalltalk(
                _checked(f"smalltalk.{key}.question", t["question"], set()),
                _checked(f"smalltalk.{key}.answer", t["answer"], set()),
            )
            for key, t in table["smalltalk"].items()
        },
        followups=_checked("followups", table["followups"], set()),
        faq_marks=tuple((str(q), str(a)) for q, a in table["faq_marks"]),
        list_joint=table["list_joint"],
        list_last=table["list_last"],
    )


def _attribute(key: str, table: dict[str, Any]) -> AttributePhrases:
    """One ``[attribute.*]`` table."""
    asked = {
        who: _checked(f"attribute.{key}.question.{who}", table["question"][who], {"name"})
        for who in ("web", "sft", "eval")
    }
    return AttributePhrases(
        labels=_checked(f"attribute.{key}.labels", table["labels"], set()),
        cell=_checked(f"attribute.{key}.cell", [table["cell"]], {"value"})[0],
        answer=_checked(f"attribute.{key}.answer", table["answer"], {"name", "value"}),
        statement=_checked(f"attribute.{key}.statement", table["statement"], {"name", "value"}),
        question=Questions(**asked),
    )


def _combined(templates: list[str]) -> tuple[str, ...]:
    """Combined sentences: the name and at least two attributes."""
    for template in templates:
        rest = placeholders(template) - {"name"}
        if "name" not in placeholders(template) or len(rest) < 2 or rest - set(ATTRIBUTES):
            raise ValueError(f"combined: {template!r} wants {{name}} and two or more attributes")
    return tuple(templates)


def _kinds(table: dict[str, Any]) -> dict[str, KindPhrases]:
    """Titles name the subject; openers may name it."""
    subject = {kind: {"name"} for kind in SINGLE_KINDS}
    subject |= {"compare": {"name_a", "name_b"}, "roundup": {"names"}}
    return {
        kind: KindPhrases(
            _checked(f"kind.{kind}.titles", table[kind]["titles"], names),
            _checked(f"kind.{kind}.openers", table[kind]["openers"], set(), names),
        )
        for kind, names in subject.items()
    }


def _calculation(key: str, table: dict[str, Any]) -> Calculation:
    """One ``[calculation.*]`` table: questions hide what they ask for, answers show the sum."""
    names = {"name_b"} if key == "age" else {"name_a", "name_b"}
    given = names | {"a"} if key == "age" else names
    return Calculation(
        sft=_checked(f"calculation.{key}.sft", table["sft"], given),
        eval=_checked(f"calculation.{key}.eval", table["eval"], given),
        answer=_checked(f"calculation.{key}.answer", table["answer"], names | {"a", "b", "d"}),
    )


def _checked(
    key: str, templates: list[str], required: set[str], optional: set[str] | None = None
) -> tuple[str, ...]:
    """``templates`` as a tuple, if each holds all ``required`` and nothing unknown."""
    for template in templates:
        found = placeholders(template)
        if not required <= found or found - required - (optional or set()):
            raise ValueError(f"{key}: {template!r} wants the placeholders {sorted(required)}")
    if not templates:
        raise ValueError(f"{key}: is empty; give at least one wording")
    return tuple(templates)
