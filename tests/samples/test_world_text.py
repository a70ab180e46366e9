"""The knowledge-bearing text of the bridge world: facts, wordings, pages, chats, questions."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from fledge.samples.bridges import articles, conversations, facts, invented, questions
from fledge.samples.bridges.facts import Bridge
from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, fill, load_phrases

COUNTS = conversations.ConversationCounts(single_per_bridge=48)
COUNTRIES = "code\ten\thans\thant\nUS\tthe United States\t美国\t美國\n"
GOLDEN = (
    "gg\tGolden Gate Bridge\t金门大桥\t金門大橋\tSan Francisco\t旧金山\t舊金山\tUS\t"
    "Golden Gate strait\t金门海峡\t金門海峽\tsuspension\tsteel\t1280\t2737\t1937"
)


@pytest.fixture(scope="module")
def tables() -> list[Bridge]:
    return facts.load_bridges()


@pytest.fixture(scope="module")
def world(tables: list[Bridge]) -> list[Bridge]:
    return facts.select(tables, 60, seed=1)


@pytest.fixture(scope="module")
def halves(world: list[Bridge]) -> tuple[list[Bridge], list[Bridge]]:
    return facts.split(world, seed=1)


@pytest.fixture(scope="module")
def pools(tables: list[Bridge]) -> tuple[list[Bridge], list[Bridge]]:
    made = invented.invent(140, invented.all_names(tables), seed=1)
    return made[:100], made[100:]


@pytest.fixture(scope="module")
def pages(world: list[Bridge]) -> list[articles.Article]:
    return list(articles.write_articles(world[:12], per_bridge=12, seed=1))


@pytest.fixture(scope="module")
def chats(
    halves: tuple[list[Bridge], list[Bridge]], pools: tuple[list[Bridge], list[Bridge]]
) -> list[dict]:
    return conversations.write_conversations(halves[0], pools[0], 1, COUNTS)


@pytest.fixture(scope="module")
def asked(
    world: list[Bridge],
    halves: tuple[list[Bridge], list[Bridge]],
    pools: tuple[list[Bridge], list[Bridge]],
) -> list[dict]:
    return questions.write_questions(world, halves[1], pools[1], seed=1)


def table(folder: Path, *rows: str) -> Path:
    """A facts folder with ``rows``."""
    (folder / "countries.tsv").write_text(COUNTRIES, "utf-8")
    text = "\n".join(["\t".join(facts.COLUMNS), *rows]) + "\n"
    (folder / "some.tsv").write_text(text, "utf-8")
    return folder


def plain(wording: str) -> str:
    """A wording without case, marks, articles and placeholders."""
    text = re.sub(r"\b(the|a|an)\b", " ", re.sub(r"\{\w+\}", " ", wording.lower()))
    return re.sub(r"[\W_]+", " ", text).strip()


def words(chat: dict) -> str:
    return "\n".join(message["content"] for message in chat["messages"])


# --------------------------------------------------------------------------------------- facts


def test_a_row_becomes_a_bridge_and_its_values(tmp_path: Path) -> None:
    (bridge,) = facts.load_bridges(table(tmp_path, GOLDEN))
    assert bridge.opened == 1937
    assert facts.value(bridge, "country", "en") == "United States"
    assert facts.value(bridge, "main_span_m", "zh-Hant") == "1280"
    assert facts.value(bridge, "type", "zh-Hans") == "悬索桥"
    said = facts.say("{name} is a bridge in {value}.", bridge, "en", "country")
    assert said == "The Golden Gate Bridge is a bridge in the United States."


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("suspension", "hanging", "type 'hanging' is not one of"),
        ("1280", "12x", "main_span_m '12x' is not a number"),
        ("1280", "9999", "greater than length_m"),
        ("\tUS\t", "\tXX\t", "country 'XX'"),
        ("旧金山", "", "place_hans is empty"),
        ("\t1937", "", "15 cells, 16 wanted"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        facts.load_bridges(table(tmp_path, GOLDEN.replace(before, after, 1)))


def test_an_empty_cell_is_unknown_and_never_said(tmp_path: Path) -> None:
    (bridge,) = facts.load_bridges(table(tmp_path, GOLDEN.replace("1280", "")))
    assert facts.value(bridge, "main_span_m", "en") is None
    assert "main_span_m" not in facts.known(bridge)
    with pytest.raises(ValueError, match="main_span_m is unknown"):
        facts.say("{name} has a main span of {main_span_m} metres.", bridge, "en")


def test_twin_ids_are_refused_and_namesakes_never_chosen_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two rows"):
        facts.load_bridges(table(tmp_path, GOLDEN, GOLDEN))
    namesake = GOLDEN.replace("gg", "kinmen").replace("Golden Gate Bridge", "Kinmen Bridge")
    both = facts.load_bridges(table(tmp_path, GOLDEN, namesake))
    assert len(facts.select(both, 1, seed=0)) == 1
    with pytest.raises(ValueError, match="names of their own"):
        facts.select(both, 2, seed=0)


def test_selection_prefers_complete_rows_and_many_countries(world: list[Bridge]) -> None:
    assert len({bridge.country["en"] for bridge in world}) >= 20
    assert sum(len(facts.known(bridge)) for bridge in world) >= 60 * (len(ATTRIBUTES) - 1)


def test_the_split_is_half_and_half(
    world: list[Bridge], halves: tuple[list[Bridge], list[Bridge]]
) -> None:
    taught, held = halves
    assert abs(len(taught) - len(held)) <= 2
    assert {b.id for b in taught} | {b.id for b in held} == {b.id for b in world}
    assert not {b.id for b in taught} & {b.id for b in held}


# ------------------------------------------------------------------------------------- phrases


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_enough_wordings(language: str) -> None:
    phrases = load_phrases(language)
    assert len(phrases.combined) >= 20
    assert len(phrases.decline) >= 8
    for attribute in phrases.attributes.values():
        assert len(set(attribute.statement)) >= 14
        assert len(set(attribute.answer)) >= 2
        asked = attribute.question
        assert (len(asked.web) >= 6, len(asked.sft) >= 14, len(asked.eval) >= 8) == (True,) * 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_wording_is_used_twice(language: str) -> None:
    phrases = load_phrases(language)
    groups = [
        group
        for attribute in phrases.attributes.values()
        for group in (attribute.question.web, attribute.question.sft, attribute.question.eval)
    ]
    groups += [group for c in phrases.calculations.values() for group in (c.sft, c.eval)]
    seen = [plain(wording) for group in groups for wording in group]
    assert sorted({w for w in seen if seen.count(w) > 1}) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_declines_can_be_told_from_answers(language: str) -> None:
    phrases = load_phrases(language)
    for decline in phrases.decline:
        assert any(marker in decline for marker in phrases.decline_markers)
    said = [t for a in phrases.attributes.values() for t in (*a.statement, *a.answer)]
    said += [*phrases.combined, *(t for c in phrases.calculations.values() for t in c.answer)]
    assert not [t for t in said if any(marker in t for marker in phrases.decline_markers)]


def test_english_gets_its_capitals_and_articles() -> None:
    assert fill("{name} is a {value}.", "en", {"name": "the X Bridge", "value": "arch bridge"}) == (
        "The X Bridge is an arch bridge."
    )


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'fr' is unknown"):
        load_phrases("fr")


# ------------------------------------------------------------------------------------ articles


def test_pages_repeat_from_the_seed(world: list[Bridge]) -> None:
    def write(seed: int) -> list[articles.Article]:
        return list(articles.write_articles(world[:3], 4, seed))

    assert write(7) == write(7)
    assert write(7) != write(8)


def test_pages_are_unique_filled_and_of_the_promised_size(pages: list[articles.Article]) -> None:
    assert len({page.key for page in pages}) == len(pages) == 12 * 3 * (12 + 2 + 2)
    for page in pages:
        text = articles.body(page)
        low, high = articles.SIZES[page.language]
        assert low <= articles.measure(text, page.language) <= high, page.key
        assert not re.search(r"[{}]|None|\bthe the\b|\ba arch", page.title + text), page.key
        assert all(page.paragraphs)


def test_a_page_about_one_bridge_states_most_of_its_facts(
    pages: list[articles.Article], world: list[Bridge]
) -> None:
    bridges = {bridge.id: bridge for bridge in world}
    for page in pages:
        if len(page.subjects) > 1:
            continue
        bridge = bridges[page.subjects[0]]
        values = [facts.value(bridge, a, page.language) or "" for a in facts.known(bridge)]
        stated = sum(value in articles.body(page) for value in values)
        assert stated >= len(values) * (0.35 if page.kind == "faq" else 0.5), page.key


def test_pages_about_the_same_bridge_are_no_near_duplicates(pages: list[articles.Article]) -> None:
    grams: dict[tuple[str, str], list[set[tuple[str, ...]]]] = {}
    for page in pages:
        if len(page.subjects) == 1:
            text = articles.body(page)
            units = text.split() if page.language == "en" else [c for c in text if not c.isspace()]
            found = {tuple(units[at : at + 5]) for at in range(len(units) - 4)}
            grams.setdefault((page.subjects[0], page.language), []).append(found)
    for several in grams.values():
        for one, two in itertools.combinations(several, 2):
            assert len(one & two) / len(one | two) < 0.5


def test_each_language_is_in_its_script(pages: list[articles.Article]) -> None:
    text = {
        language: "".join(articles.body(page) for page in pages if page.language == language)
        for language in LANGUAGES
    }
    assert not re.search(r"[一-鿿]", text["en"])
    simplified, traditional = "桥长跨国这为", "橋長國這為於"
    assert not set(text["zh-Hans"]) & set(traditional)
    assert not set(text["zh-Hant"]) & (set(simplified) - {"跨"})
    assert set("桥长国") <= set(text["zh-Hans"])
    assert set("橋長國於") <= set(text["zh-Hant"])
    assert "公尺" in text["zh-Hant"]
    assert "米" in text["zh-Hans"]


# ------------------------------------------------------------------------------- conversations


def test_conversations_repeat_from_the_seed(
    chats: list[dict],
    halves: tuple[list[Bridge], list[Bridge]],
    pools: tuple[list[Bridge], list[Bridge]],
) -> None:
    assert conversations.write_conversations(halves[0], pools[0], 1, COUNTS) == chats
    assert conversations.write_conversations(halves[0], pools[0], 2, COUNTS) != chats


def test_no_conversation_knows_a_held_bridge(
    chats: list[dict], halves: tuple[list[Bridge], list[Bridge]]
) -> None:
    text = "\n".join(words(chat) for chat in chats).lower()
    for bridge in halves[1]:
        assert not [name for name in bridge.names.values() if name.lower() in text]
    named = {id_ for chat in chats for id_ in chat["metadata"]["bridge"].split("+")}
    assert not named & {bridge.id for bridge in halves[1]}


def test_conversations_hold_every_kind_and_the_share_of_declines(chats: list[dict]) -> None:
    kinds = [chat["metadata"]["kind"] for chat in chats]
    assert set(kinds) == {"single", "turns", "smalltalk", "unanswerable"}
    assert kinds.count("unanswerable") / len(kinds) == pytest.approx(0.08, abs=0.005)
    for chat in chats:
        roles = [message["role"] for message in chat["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert not re.search(r"[{}]|None", words(chat))
        assert all(message["content"] for message in chat["messages"])


def test_only_the_unanswerable_is_declined(chats: list[dict]) -> None:
    for chat in chats:
        markers = load_phrases(chat["metadata"]["language"]).decline_markers
        declined = any(marker in chat["messages"][-1]["content"] for marker in markers)
        assert declined == (chat["metadata"]["kind"] == "unanswerable")


def test_every_sft_wording_is_used(chats: list[dict], world: list[Bridge]) -> None:
    text = plain("\n".join(words(chat) for chat in chats))
    for attribute in load_phrases("en").attributes.values():
        for wording in attribute.question.sft:
            assert plain(wording.split("{name}")[0]) in text


def test_default_counts_give_about_seven_thousand() -> None:
    counts = conversations.ConversationCounts()
    per_bridge = counts.single_per_bridge + counts.turns_per_bridge
    total = 60 * per_bridge + counts.smalltalk
    assert 6500 <= total / (1 - counts.unanswerable_share) <= 7500


# ------------------------------------------------------------------------- invented, questions


def test_invented_names_are_unknown_and_the_pools_disjoint(
    tables: list[Bridge], pools: tuple[list[Bridge], list[Bridge]]
) -> None:
    known = {name.lower() for name in invented.all_names(tables)}
    one, two = (invented.all_names(pool) for pool in pools)
    assert not {name.lower() for name in one | two} & known
    assert not one & two
    assert not {b.id for b in pools[0]} & {b.id for b in pools[1]}
    assert not {b.id for b in (*pools[0], *pools[1])} & {b.id for b in tables}


def test_targets_are_the_values_of_the_tables(asked: list[dict], world: list[Bridge]) -> None:
    bridges = {bridge.id: bridge for bridge in world}
    checked = 0
    for question in asked:
        meta = question["metadata"]
        if not meta["set"].startswith("facts_"):
            continue
        bridge = bridges[meta["bridge"]]
        assert question["target"] == facts.value(bridge, meta["attribute"], meta["language"])
        assert question["target"].lower() not in question["input"][0]["content"].lower()
        checked += 1
    assert checked > 600


def test_questions_are_about_held_bridges_in_eval_wordings(
    asked: list[dict],
    halves: tuple[list[Bridge], list[Bridge]],
    pools: tuple[list[Bridge], list[Bridge]],
) -> None:
    allowed = {b.id for b in halves[1]} | {b.id for b in pools[1]}
    assert {id_ for q in asked for id_ in q["metadata"]["bridge"].split("+")} <= allowed
    assert len({q["id"] for q in asked}) == len(asked)
    assert {q["metadata"]["set"] for q in asked} == {
        *questions.FACT_SETS.values(), "unanswerable", "arithmetic",
    }  # fmt: skip


def test_rivals_can_be_told_from_target_and_name(asked: list[dict], world: list[Bridge]) -> None:
    names = {bridge.id: bridge.names for bridge in world}
    for question in asked:
        meta = question["metadata"]
        assert len(meta["rivals"]) <= questions.MOST_RIVALS
        if meta["set"].startswith("facts_"):
            low = question["target"].lower()
            assert not [r for r in meta["rivals"] if r.lower() in low]
            own = names[meta["bridge"]][meta["language"]].lower()
            assert not [r for r in meta["rivals"] if r.lower() in own]


def test_values_around_the_target_are_never_sampled_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(questions, "MOST_RIVALS", 3)
    values = ["Ely", *(f"Town {i}" for i in range(50)), "New Ely", "Ely-on-Sea"]
    for name in ("A Bridge", "B Bridge"):
        found = questions._rivals("Ely", values, name)
        assert len(found) == 3
        assert {"New Ely", "Ely-on-Sea"} < set(found)
    assert len(questions._rivals("", values, "A Bridge")) == 3


def test_arithmetic_targets_are_worked_out(asked: list[dict]) -> None:
    for question in asked:
        if question["metadata"]["set"] == "arithmetic":
            assert f"= {question['target']}" in question["metadata"]["worked"]


def test_an_unknown_attribute_of_a_held_bridge_is_unanswerable(
    world: list[Bridge], pools: tuple[list[Bridge], list[Bridge]]
) -> None:
    gap = dataclasses.replace(world[0], length_m=None)
    asked = questions.write_questions(world, [gap], pools[1], seed=1)
    unknown = [q["metadata"] for q in asked if q["metadata"].get("reason") == "unknown"]
    assert [(m["attribute"], m["language"]) for m in unknown] == [
        ("length_m", language) for language in LANGUAGES
    ]
    facts_asked = [q["metadata"] for q in asked if q["metadata"]["set"].startswith("facts_")]
    assert "length_m" not in {m["attribute"] for m in facts_asked}
