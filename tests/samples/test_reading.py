"""Conversations with passages: answered from them alone, and in the form of ``fledge ask``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fledge.core.files import read_jsonl
from fledge.core.protocols import Silent
from fledge.core.types import Span
from fledge.metrics.answers import answers
from fledge.rag.checks import bears_out
from fledge.rag.passage import Passage
from fledge.rag.prompt import build_prompt, not_found
from fledge.samples.bridges.config import SamplesConfig
from fledge.samples.bridges.facts import Bridge, load_bridges, select, split, strangers
from fledge.samples.bridges.reading import (
    NOT_FOUND,
    reading_prompt,
    write_reading,
    write_unseen,
)
from fledge.samples.bridges.world import write_world

SEED = 3


@pytest.fixture(scope="module")
def taught() -> list[Bridge]:
    return split(select(load_bridges(), 80, SEED), SEED)[0]


def test_what_is_answered_stands_in_a_passage_and_nothing_else_is(taught: list[Bridge]) -> None:
    rows = write_reading(taught, 600, SEED)
    absent = [row for row in rows if row["metadata"]["reason"] == "absent"]
    assert 50 < len(absent) < 130
    for row in rows:
        asked, said = (message["content"] for message in row["messages"])
        *passages, question = asked.split("\n\n")
        if row in absent:
            assert said == NOT_FOUND[row["metadata"]["language"]]
        else:
            assert any(bears_out(said, passage, question) for passage in passages), row
            assert any(said in passage for passage in passages)


def test_real_names_come_with_facts_that_are_not_theirs(taught: list[Bridge]) -> None:
    """A model cannot answer them from memory."""
    rows = write_reading(taught, 900, SEED)
    opened = {bridge.id: bridge.opened for bridge in taught}
    told = [
        row["messages"][1]["content"]
        for row in rows
        if row["metadata"]["attribute"] == "opened" and not row["metadata"]["reason"]
    ]
    same = [
        row
        for row in rows
        if row["metadata"]["attribute"] == "opened"
        and answers(row["messages"][1]["content"], str(opened[row["metadata"]["bridge"]]))
    ]
    assert len(told) > 50
    assert len(same) < 0.05 * len(told)


def test_conversations_have_the_form_in_which_fledge_asks() -> None:
    texts = ["The Kelford Bridge opened in 1937.", "凯尔福德大桥建于1937年。"]
    passages = [
        Passage(
            span=Span(document="d", hash="", start=0, end=len(text)),
            text=text,
            path="d.txt",
            score=1.0,
        )
        for text in texts
    ]
    for language, question in {
        "en": "When did it open?", "zh-Hans": "它什么时候开通？", "zh-Hant": "它什麼時候開通？",
    }.items():  # fmt: skip
        prompt = build_prompt(question, passages, budget=300, short=True)
        assert prompt.messages[-1].content == reading_prompt(texts, question)
        assert len(prompt.messages) == 1
        assert not_found(question) == NOT_FOUND[language]


def test_unseen_bridges_stand_in_their_own_pages_alone(tmp_path: Path) -> None:
    config = SamplesConfig(
        bridges=12, pages_per_bridge=2, conversations_per_bridge=6, turns_per_bridge=2, reading=30,
        unseen_bridges=5, unseen_pages_per_bridge=1, howtos=24, preferences=12,
        judge_preferences=12, honesty_facts=40, seed=SEED,
    )  # fmt: skip
    counts = write_world(config, tmp_path, Silent()).counts
    asked = list(read_jsonl(tmp_path / "unseen" / "questions.jsonl"))
    pages = [path.read_text() for path in sorted((tmp_path / "unseen" / "pages").glob("*.md"))]
    assert counts["unseen_questions"] == len(asked) > 5 * 3 * 5
    assert counts["unseen_pages"] == len(pages)
    every = load_bridges()
    unseen = {row["metadata"]["bridge"] for row in asked}
    assert len(unseen) == 5
    assert unseen <= {bridge.id for bridge in strangers(every, select(every, 12, SEED))}
    rows = [
        line
        for path in tmp_path.rglob("*.jsonl")
        if "unseen" not in path.parts
        for line in path.read_text().splitlines()
    ]
    for bridge in (bridge for bridge in every if bridge.id in unseen):
        for name in bridge.names.values():
            assert any(name in page for page in pages)
            assert not any(name in row for row in rows), name


def test_a_world_without_unseen_bridges_writes_none(tmp_path: Path) -> None:
    assert write_unseen([], 3, tmp_path, SEED) == {"unseen_pages": 0, "unseen_questions": 0}
