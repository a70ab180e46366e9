"""Pages of the specification's site: its sections, and a glossary page per entity."""

import math
import random
from collections.abc import Iterator, Sequence

from fledge.samples.bridges.articles import Article, measure
from fledge.samples.bridges.phrases import fill
from fledge.samples.bridges.specification import load_specification
from fledge.samples.bridges.specification_facts import facts_of, relation_fact, say
from fledge.samples.bridges.specification_graph import REQUIREMENT, Entity, Specification
from fledge.samples.bridges.specification_wording import Words, load_words, spoken_value

PAGE_LIMIT = {"en": 200, "zh-Hans": 350, "zh-Hant": 350}
"""Largest page, title and rows included: English words, Chinese characters."""
EDITION = "2024-03-01"
"""date of every page"""


def write_chapters(language: str, seed: int = 0) -> Iterator[Article]:
    """The text of the code, a page or more per section, then one glossary page per entity."""
    specification, words = load_specification(), load_words(language)
    for number in specification.headings:
        if "." in number:
            yield from _section_pages(specification, number, words, seed)
    for entity in specification.entities.values():
        yield _entry_page(specification, entity, words, seed)


def _section_pages(
    specification: Specification, number: str, words: Words, seed: int
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


def _entry_page(specification: Specification, entity: Entity, words: Words, seed: int) -> Article:
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
    facts = [fact for fact in facts_of(specification, entity, words) if fact.wording != "rule"]
    said = [say(fact, "statement", words, rng) for fact in facts]
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
    specification: Specification, entity: Entity, words: Words, rng: random.Random
) -> list[str]:
    """Sentences on what is made of it, supports it, uses it."""
    sentences = []
    for relation in ("MADE_OF", "SUPPORTS", "USES"):
        others = specification.subjects(entity.id, relation)
        if others:
            fact = relation_fact(entity, relation, others, words)
            sentences.append(say(fact, "inverse", words, rng))
    return sentences


def _rows(entity: Entity, words: Words) -> list[tuple[str, str]]:
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
