"""The bridge design specification: its data, its pages, its conversations and questions."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from graphlib import TopologicalSorter
from importlib.resources import files
from pathlib import Path

import pytest

from fledge.samples.bridges.articles import Article, measure
from fledge.samples.bridges.phrases import LANGUAGES
from fledge.samples.bridges.specification import load_specification
from fledge.samples.bridges.specification_dialogue import (
    taught_ids,
    write_spec_conversations,
    write_spec_questions,
)
from fledge.samples.bridges.specification_graph import (
    RELATIONS,
    REQUIREMENT,
    THINGS,
    Specification,
)
from fledge.samples.bridges.specification_pages import PAGE_LIMIT, write_chapters
from fledge.samples.bridges.specification_wording import load_words, spoken_value


@pytest.fixture(scope="module")
def specification() -> Specification:
    return load_specification()


def numbers(text: str) -> list[str]:
    """Numbers of ``text``, sorted: the order of words differs between languages."""
    return sorted(re.findall(r"-?\d+(?:[./]\d+)*", text))


def test_counts(specification: Specification) -> None:
    kinds = Counter(entity.kind for entity in specification.entities.values())
    wanted = {"Material": 10, "Beam": 7, "Pier": 6, "Section": 10, REQUIREMENT: 30}
    assert set(kinds) == set(wanted)
    assert all(kinds[kind] >= count for kind, count in wanted.items())
    assert len(specification.relations) >= 120
    assert len(specification.clauses) >= 45


def test_the_scope_says_that_it_is_no_standard(specification: Specification) -> None:
    scope = specification.clauses[0]
    assert scope.number == "1.1.1"
    for language, words in (
        ("en", ("teaching text", "not a legal standard")),
        ("zh-Hans", ("教学文本", "不是法定标准")),
        ("zh-Hant", ("教學文本", "不是法定標準")),
    ):
        assert all(word in scope.text[language] for word in words)


def test_relations_end_at_entities_of_fitting_kinds(specification: Specification) -> None:
    for relation in specification.relations:
        sources, targets = RELATIONS[relation.relation]
        assert specification.entities[relation.subject].kind in sources
        assert specification.entities[relation.object].kind in targets


def test_meets_and_applies_to_are_inverses(specification: Specification) -> None:
    meets = {(r.subject, r.object) for r in specification.relations if r.relation == "MEETS"}
    applies = {(r.object, r.subject) for r in specification.relations if r.relation == "APPLIES_TO"}
    assert meets == applies
    assert {thing for thing, _ in meets} == {
        id_ for id_, entity in specification.entities.items() if entity.kind in THINGS
    }


def test_nothing_supports_itself(specification: Specification) -> None:
    below: dict[str, set[str]] = {}
    for relation in specification.relations:
        if relation.relation == "SUPPORTS":
            below.setdefault(relation.object, set()).add(relation.subject)
    assert "foundation-pile" in list(TopologicalSorter(below).static_order())


def test_numbers_are_the_same_in_all_languages(specification: Specification) -> None:
    for clause in specification.clauses:
        found = {language: numbers(clause.text[language]) for language in LANGUAGES}
        assert found["en"] == found["zh-Hans"] == found["zh-Hant"], clause.number
    for entity in specification.entities.values():
        for texts in (entity.name, entity.text):
            assert len({tuple(numbers(texts[language])) for language in LANGUAGES}) == 1, entity.id


def test_a_value_stands_in_its_clause(specification: Specification) -> None:
    clauses = {clause.number: clause for clause in specification.clauses}
    for entity in specification.entities.values():
        if "value" in entity.properties:
            for language in LANGUAGES:
                said = spoken_value(entity, "value", language)
                assert said in entity.text[language]
                text = clauses[str(entity.properties["clause"])].text[language]
                assert text.startswith(entity.text[language])


def test_traditional_text_has_no_simplified_characters(specification: Specification) -> None:
    simplified = set("应为设计规桥级强钢构类车载温风缝护栏层总长径宽轴门们这时对条给写说请图")
    texts = [clause.text["zh-Hant"] for clause in specification.clauses]
    texts += [entity.name["zh-Hant"] for entity in specification.entities.values()]
    texts += [p for article in write_chapters("zh-Hant") for p in article.paragraphs]
    assert not simplified & set("".join(texts))


def test_wordings_cover_the_same_ground_in_all_languages() -> None:
    def shape(language: str) -> tuple[object, ...]:
        words = load_words(language)
        facts = {wording: set(uses) for wording, uses in words.facts.items()}
        return set(words.texts), set(words.labels), set(words.units), facts

    assert shape("en") == shape("zh-Hans") == shape("zh-Hant")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_wording_is_both_taught_and_asked(language: str) -> None:
    chat = {t for uses in load_words(language).facts.values() for t in uses["chat"]}
    exam = {t for uses in load_words(language).facts.values() for t in uses["exam"]}
    assert chat
    assert exam
    assert not chat & exam


def whole(article: Article) -> str:
    """Everything a page shows."""
    cells = [cell for row in article.rows for cell in row]
    return " ".join([article.title, *article.paragraphs, *cells])


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_are_short_complete_and_repeatable(
    language: str, specification: Specification
) -> None:
    pages = list(write_chapters(language, seed=3))
    assert pages == list(write_chapters(language, seed=3))
    assert pages != list(write_chapters(language, seed=4))
    assert len({page.key for page in pages}) == len(pages)
    for page in pages:
        assert page.kind == "specification"
        assert measure(whole(page), language) <= PAGE_LIMIT[language], page.key
        assert "{" not in whole(page)
    text = "\n".join(p for page in pages for p in page.paragraphs)
    for clause in specification.clauses:
        assert f"{clause.number} {clause.text[language]}" in text
    about = {page.subjects[0] for page in pages if len(page.subjects) == 1}
    assert about >= set(specification.entities)


@pytest.mark.parametrize("language", LANGUAGES)
def test_conversations_and_questions_share_nothing(
    language: str, specification: Specification
) -> None:
    conversations = write_spec_conversations(language, seed=1)
    questions = write_spec_questions(language, seed=2)
    taught = {record["metadata"]["subject"] for record in conversations}
    asked = {record["id"].split("/")[2] for record in questions}
    assert taught <= taught_ids(specification)
    assert not taught & asked
    assert len(taught) > len(specification.entities) * 0.45
    assert len(asked) > len(specification.entities) * 0.4
    said = {m["content"] for record in conversations for m in record["messages"][::2]}
    assert not said & {record["input"][0]["content"] for record in questions}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_conversation_tells_the_value_of_an_asked_requirement(
    language: str, specification: Specification
) -> None:
    answers = [
        message["content"].lower()
        for record in write_spec_conversations(language, seed=0)
        for message in record["messages"]
    ]
    for record in write_spec_questions(language, seed=0):
        entity = specification.entities[record["id"].split("/")[2]]
        if entity.kind == REQUIREMENT:
            name, target = entity.name[language].lower(), record["target"].lower()
            assert not [a for a in answers if name in a and target in a], record["id"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_have_one_target_that_they_do_not_give_away(language: str) -> None:
    questions = write_spec_questions(language, seed=0)
    assert questions == write_spec_questions(language, seed=0)
    assert len({record["id"] for record in questions}) == len(questions)
    for record in questions:
        assert record["target"]
        assert record["target"].lower() not in record["input"][0]["content"].lower()
        assert set(record["metadata"]) == {"set", "language", "attribute", "bridge", "rivals"}
    attributes = {record["metadata"]["attribute"] for record in questions}
    assert {"length", "time", "load", "clause", "MADE_OF", "SUPPORTS", "USES"} <= attributes


def test_the_same_is_asked_in_all_languages() -> None:
    asked = [
        {record["id"].split("/", 2)[2] for record in write_spec_questions(language, seed=0)}
        for language in LANGUAGES
    ]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_conversations_answer_in_sentences(language: str) -> None:
    records = write_spec_conversations(language, seed=0)
    assert records == write_spec_conversations(language, seed=0)
    assert records != write_spec_conversations(language, seed=1)
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert record["metadata"]["kind"] == "spec"
        assert record["metadata"]["language"] == language
        assert all(m["content"].endswith((".", "。")) for m in record["messages"][1::2])
        assert all("{" not in m["content"] for m in record["messages"])


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'fr' is unknown"):
        write_spec_questions("fr", seed=0)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the shipped data, to break."""
    source = files("fledge.samples.bridges").joinpath("spec")
    for name in ("entities.toml", "clauses.toml", "relations.tsv"):
        (tmp_path / name).write_text(source.joinpath(name).read_text("utf-8"), "utf-8")
    return tmp_path


def test_a_copy_loads_like_the_original(copy: Path, specification: Specification) -> None:
    assert load_specification(copy) == specification


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("entities.toml", 'kind = "Pier"', 'kind = "Peer"', "kind 'Peer' is not one of"),
        ("entities.toml", 'id = "c40"', 'id = "c30"', "'c30' stands twice"),
        ("entities.toml", 'name.zh-Hant = "箱型梁"', 'name.fr = "x"', "name.zh-Hant is missing"),
        (
            "entities.toml",
            'name.en = "box girder"',
            'name.en = "T-beam"',
            "both are named 't-beam'",
        ),
        ("entities.toml", 'unit = "mm"', 'unit = "feet"', "unit 'feet' is unknown"),
        ("entities.toml", "properties.max_span", "properties.depth", "property 'depth' is unknown"),
        ("entities.toml", 'clause = "7.2.2"', 'clause = "7.2.99"', "clause 7.2.99 is not in"),
        ("entities.toml", 'clause = "4.2.3"', 'clause = "4.2.2"', "both in clause 4.2.2"),
        (
            "clauses.toml",
            "bearings shall be {value}",
            "bearings shall be 20 years",
            "must hold {value} 1 times",
        ),
        ("clauses.toml", 'number = "4.2.3"', 'number = "4.2.2"', "4.2.2: stands twice"),
        ("clauses.toml", 'number = "4.2.3"', 'number = "40.2.3"', "has no heading"),
        ("relations.tsv", "MADE_OF\tc60", "MADE_OF\tc70", "'c70' is no entity"),
        ("relations.tsv", "MADE_OF\tc60", "MADE_OF\tweb", "'web' is a Section; MADE_OF wants"),
        ("relations.tsv", "MADE_OF\tc60", "EATS\tc60", "'EATS' is not one of"),
        ("relations.tsv", "c40\tMEETS\t", "c30\tMEETS\t", "has no inverse|repeats line"),
        ("relations.tsv", "\tc60", " c60", "2 cells, 3 wanted"),
    ],
)
def test_broken_data_is_refused(copy: Path, name: str, old: str, new: str, message: str) -> None:
    text = (copy / name).read_text("utf-8")
    assert old in text
    (copy / name).write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match=re.escape(message) if "|" not in message else message):
        load_specification(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    shutil.move(copy / "relations.tsv", copy / "other.tsv")
    with pytest.raises(ValueError, match=r"relations\.tsv: is missing"):
        load_specification(copy)
