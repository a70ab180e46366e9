"""Real questions in two languages: found, answered exactly, declined when the answer is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from fledge.index.config import IndexConfig
from fledge.index.embed import open_embedder
from fledge.index.folder import build_index
from fledge.index.store.protocol import Snapshot
from fledge.rag.answer import AnswerConfig, Answerer
from fledge.rag.calibration import holding
from fledge.rag.grounding import Grounding, opened
from fledge.rag.hidden import Hidden
from fledge.rag.measuring import measure
from fledge.rag.questions import Labelled
from fledge.rag.strategies import STRATEGIES, config_of, strategy

pytestmark = pytest.mark.shared
EACH = 60
"""Questions in each language."""


@pytest.fixture(scope="module")
def world(
    fledge_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Grounding, Snapshot, dict[str, list[Labelled]]]]:
    """XQuAD, a document a paragraph, both languages in one index of hierarchical chunks."""
    work = tmp_path_factory.mktemp("xquad")
    (work / "texts").mkdir()
    asked: dict[str, list[Labelled]] = {"en": [], "zh": []}
    with (fledge_data / "xquad_en_zh" / "xquad.jsonl.zst").open("rb") as packed:
        lines = zstandard.ZstdDecompressor().stream_reader(packed).read().decode().split("\n")
    for row in (json.loads(line) for line in lines if line):
        name = f"{row['lang']}-{row['article']}-{row['paragraph']}.txt"
        (work / "texts" / name).write_text(row["context"], encoding="utf-8", newline="")
        for one in row["qas"][:1]:
            answer = one["answers"][0]
            start, text = answer["answer_start"], str(answer["text"])
            if row["context"][start : start + len(text)] == text:
                span = (start, start + len(text))
                asked[row["lang"]].append(
                    Labelled(question=one["question"], document=name, spans=(span,),
                             answers=(text,))
                )  # fmt: skip
    config = IndexConfig.model_validate(
        {
            "input": [str(work / "texts")],
            "embedder": "none",
            "split": {"strategy": "hierarchical", "sizes": [400, 100]},
        }
    )
    build_index(config, work / "index", open_embedder("none"))
    with opened(work / "index") as grounding, grounding.store.snapshot() as snapshot:
        ids = {known.path.split("/")[-1]: known.id for known in snapshot.known()}
        for language, questions in asked.items():
            asked[language] = [
                Labelled(**{**vars(one), "document": ids[one.document]}) for one in questions[:EACH]
            ]
        yield grounding, snapshot, asked


World = tuple[Grounding, Snapshot, dict[str, list[Labelled]]]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_second_look_finds_no_less_than_words_alone(world: World, language: str) -> None:
    grounding, snapshot, asked = world
    hits = {}
    for name in ("lexical", "default"):
        answerer = grounding.answerer(config_of(strategy(name), k=5, window=0))
        figures = measure(answerer, snapshot, asked[language]).figures()
        hits[name] = figures["hit@1"].value
    assert hits["default"] >= hits["lexical"] - 1e-9
    assert hits["default"] >= 0.75


@pytest.mark.parametrize(
    "name", [one.name for one in STRATEGIES.values() if not one.model and not one.embedder]
)
def test_every_citation_is_exact(world: World, name: str) -> None:
    grounding, snapshot, asked = world
    config = config_of(strategy(name), k=4, window=1)
    answerer = grounding.answerer(config, AnswerConfig(threshold=0.0))
    for questions in asked.values():
        found = measure(answerer, snapshot, questions[:30])
        assert found.exact == found.shown >= 30


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_was_taken_away_is_declined(world: World, language: str) -> None:
    grounding, snapshot, asked = world
    answerer: Answerer = grounding.answerer()
    there = [answerer.answer(snapshot, one.question).supported for one in asked[language]]
    gone = []
    for one in asked[language]:
        hidden = Hidden(snapshot, holding(snapshot, one))
        gone.append(not answerer.answer(hidden, one.question).supported)
    assert sum(gone) >= 0.6 * len(gone)
    assert sum(there) >= 0.7 * len(there)
