"""Measuring: labels, figures, hidden chunks, calibration, grids of strategies and needles."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from memory_store import HashEmbedder, MemorySnapshot, shelf

from fledge.client.echo import Echo
from fledge.core.errors import FledgeError, InputError
from fledge.core.types import Message, Span
from fledge.index.config import IndexConfig
from fledge.rag.answer import AnswerConfig, Answerer
from fledge.rag.calibration import (
    Calibration,
    calibrate_fusion,
    calibrate_support,
    halves,
    holding,
    read_calibration,
    weigh,
)
from fledge.rag.compare import CompareConfig, cells, compare
from fledge.rag.hidden import Hidden
from fledge.rag.measuring import measure
from fledge.rag.needle import NeedleConfig, needle_grids, worst
from fledge.rag.pages import compare_page, needle_page
from fledge.rag.passage import Passage
from fledge.rag.questions import Labelled, read_questions
from fledge.rag.retrieval_config import LegWeights
from fledge.rag.retrieve import Retriever
from fledge.rag.strategies import STRATEGIES, config_of, strategy

COLOURS = ("red", "green", "grey", "white", "black", "orange", "blue", "brown")
TEXTS = {
    f"b{i}": f"Bridge number {i} stands in town {i}. Its railing is {COLOURS[i % 8]}."
    f" The toll keeper of bridge {i} earns {100 + i} coins."
    for i in range(40)
}
QUESTIONS = [
    Labelled(question=f"How many coins does the toll keeper of bridge {i} earn?",
             document=f"b{i}", answers=(f"{100 + i}",))
    for i in range(40)
]  # fmt: skip


def passage(document: str, start: int, end: int, text: str = "") -> Passage:
    span = Span(document=document, hash="", start=start, end=end)
    return Passage(span=span, text=text, path=f"{document}.txt", score=1.0)


def test_labels_by_span_by_text_and_by_document() -> None:
    span = Labelled(question="?", document="d", spans=((10, 20),))
    assert span.answered_by(passage("d", 5, 25))
    assert not span.answered_by(passage("d", 5, 18))
    assert span.touched_by(passage("d", 5, 18))
    assert not span.touched_by(passage("d", 20, 30))
    assert not span.answered_by(passage("e", 5, 25))
    long = Labelled(question="?", document="d", spans=((0, 100),))
    assert long.answered_by(passage("d", 20, 60))
    assert not long.answered_by(passage("d", 90, 130))
    text = Labelled(question="?", answers=("1937",))
    assert text.answered_by(passage("d", 0, 9, "in 1937"))
    assert not text.answered_by(passage("d", 0, 9, "in 1938"))
    assert Labelled(question="?", document="d.txt").answered_by(passage("d", 0, 1))
    assert not Labelled(question="?").answered_by(passage("d", 0, 1))


def test_a_question_file_is_read_or_its_line_named(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    rows = [
        {"question": "a", "document": "d", "start": 1, "end": 3},
        {"question": "b", "answers": ["x", "y"]},
        {"question": "c", "answerable": False},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    one, two, three = read_questions(file)
    assert (one.spans, two.answers, three.answerable) == (((1, 3),), ("x", "y"), False)
    for bad, said in (
        ("{", "q.jsonl:1 is not JSON"),
        ('{"text": 1}', "no text 'question'"),
        ('{"question": "a", "colour": 1}', "unknown key 'colour'"),
        ('{"question": "a", "start": 5, "end": 3}', "start < end"),
        ('{"question": "a", "start": 5}', "q.jsonl:1"),
        ('{"question": "a", "answers": [1]}', "not a text"),
        ("", "holds no question"),
    ):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            read_questions(file)


def test_figures_of_answers() -> None:
    snapshot = shelf(TEXTS, per=3)
    answerer = Answerer(config=AnswerConfig(threshold=0.0, sentences=1))
    wrong = Labelled(question="What is the capital of Peru?", answerable=False)
    found = measure(answerer, snapshot, [*QUESTIONS[:10], wrong])
    figures = found.figures()
    assert figures["hit@1"].value == 1.0
    assert figures["answer"].value == 1.0
    assert figures["declined"].n == 1
    assert found.shown == found.exact >= 10
    told = json.loads(json.dumps(found.to_json()))
    assert told["questions"] == 11
    assert told["milliseconds"]["all"]["p95"] >= told["milliseconds"]["all"]["p50"] > 0
    assert told["tokens"]["context"] > 20
    assert {"lexical", "rerank", "extract"} <= told["milliseconds"].keys()


class Lying(MemorySnapshot):
    """Shows other words than the document has."""

    def text(self, id: str, start: int, end: int) -> str:
        return super().text(id, start, end).replace("coins", "pearls")


def test_a_store_that_lies_is_not_quoted() -> None:
    lying = Lying(shelf(TEXTS, per=3).entries)
    found = measure(Answerer(config=AnswerConfig(threshold=0.0)), lying, QUESTIONS[:3])
    assert found.exact == found.shown


def test_what_is_hidden_is_not_found() -> None:
    snapshot = shelf(TEXTS, per=3)
    one = QUESTIONS[7]
    gone = holding(snapshot, one)
    assert [chunk.document for chunk in snapshot.chunks(gone)] == ["b7"]
    hidden = Hidden(snapshot, gone)
    plain = Retriever().retrieve(snapshot, one.question).passages
    left = Retriever().retrieve(hidden, one.question).passages
    assert plain[0].span.document == "b7"
    assert "b7" not in {found.span.document for found in left}
    assert len(left) == len(plain)
    (before,), (after,) = snapshot.frequencies(["toll"]), hidden.frequencies(["toll"])
    assert (before, after) == (40, 39)


def test_support_is_fitted_by_taking_the_answer_away() -> None:
    snapshot = shelf(TEXTS, per=3)
    rows = weigh(Answerer(config=AnswerConfig(threshold=0.0)), snapshot, QUESTIONS)
    assert [row.answered for row in rows[:2]] == [True, False]
    ours, others = halves(rows)
    assert {r.question.document for r in ours}.isdisjoint(r.question.document for r in others)
    model = calibrate_support(rows)["en"]
    there = [model.probability(row.measures) for row in rows if row.answered]
    gone = [model.probability(row.measures) for row in rows if not row.answered]
    assert sum(p < model.threshold for p in there) <= 0.15 * len(there)
    assert sum(p < model.threshold for p in gone) >= 0.9 * len(gone)
    assert calibrate_support(rows[:20]) == {}


class Noise(HashEmbedder):
    """Vectors that say nothing about a question."""

    def embed_queries(self, texts: list[str]) -> object:  # type: ignore[override]
        return self.embed([f"noise {len(text)}" for text in texts])


def test_weights_are_fitted_to_what_the_embedder_is_worth() -> None:
    snapshot = shelf(TEXTS, Noise(), per=3)
    found = calibrate_fusion(Retriever(embedder=Noise()), snapshot, QUESTIONS)
    assert found["en"].dense < 0.5
    assert "zh" not in found
    few = calibrate_fusion(Retriever(embedder=Noise()), snapshot, QUESTIONS[:5])
    assert few == {}


def test_a_calibration_is_kept_beside_the_index(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) == Calibration()
    snapshot = shelf(TEXTS, per=3)
    rows = weigh(Answerer(config=AnswerConfig(threshold=0.0)), snapshot, QUESTIONS)
    made = Calibration(
        weights={"zh": LegWeights(dense=0.2, lexical=0.8)}, support=calibrate_support(rows)
    )
    made.write(tmp_path)
    again = read_calibration(tmp_path)
    assert again.weights == made.weights
    assert again.support["en"].threshold == pytest.approx(made.support["en"].threshold, abs=1e-4)


def test_every_strategy_is_a_valid_config() -> None:
    for one in STRATEGIES.values():
        config = config_of(one, k=3, window=1)
        assert config.k == 3
        assert bool(config.needs_model) == one.model
    with pytest.raises(InputError, match="did you mean 'window'"):
        strategy("windwo")


def test_the_grid_leaves_out_what_cannot_run() -> None:
    config = CompareConfig(strategies=("lexical", "dense", "hyde", "window"), sizes=(50, 100),
                           windows=(1, 2), ks=(1, 3))  # fmt: skip
    grid, left_out = cells(config, embeds=False, model=False)
    assert left_out == {"dense": "needs an embedder", "hyde": "needs a language model"}
    assert len(grid) == 2 * 2 + 2 * 2 * 2


def test_strategies_are_compared_on_indexes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "texts" / f"{name}.txt").write_text(text, encoding="utf-8")
    questions = [
        Labelled(question=one.question, document="", answers=one.answers) for one in QUESTIONS[:6]
    ]
    config = CompareConfig(strategies=("lexical", "window", "merge", "dense"), ks=(1, 3))
    index = IndexConfig(input=(str(tmp_path / "texts"),), embedder="none")
    rows, left_out = compare(config, index, questions, tmp_path / "work")
    assert [(row.cell.strategy.name, row.cell.k) for row in rows] == [
        ("lexical", 1), ("lexical", 3), ("window", 1), ("window", 3), ("merge", 1), ("merge", 3),
    ]  # fmt: skip
    assert left_out == {"dense": "needs an embedder"}
    assert {path.name for path in (tmp_path / "work").iterdir()} == {
        "auto-200", "hierarchical-200",
    }  # fmt: skip
    assert all(row.measured.exact == row.measured.shown > 0 for row in rows)
    page = compare_page(rows, left_out, len(questions))
    assert "merge, 200 tokens, k = 3" in page
    assert page.count("<svg") > 20
    with pytest.raises(InputError, match="no strategy is left"):
        compare(CompareConfig(strategies=("dense",)), index, questions, tmp_path / "work")


def test_questions_about_documents_that_are_not_there_are_no_zeros(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "b1.txt").write_text(TEXTS["b1"], encoding="utf-8")
    index = IndexConfig(input=(str(folder),), embedder="none")
    config = CompareConfig(strategies=("lexical",))
    asked = [Labelled(question="Who stands in town?", document="b1.txt")]
    with pytest.raises(InputError, match=r"1 of 1 documents .* such as 'b1.txt'") as caught:
        compare(config, index, asked, tmp_path / "work")
    assert caught.value.remedy == "did you mean 'docs/b1.txt'?"
    other = Labelled(question="?", document="elsewhere", answerable=True)
    with pytest.raises(InputError, match="'elsewhere'"):
        compare(config, index, [other], tmp_path / "work")


def test_needles_are_found_by_retrieval_in_both_languages() -> None:
    config = NeedleConfig(lengths=(200, 600), depths=(0.0, 0.5, 1.0), repeats=1)
    grids = needle_grids(config)
    assert [(grid.language, grid.share) for grid in grids] == [("en", 1.0), ("zh", 1.0)]
    assert worst(grids) == 1.0
    page = needle_page(grids)
    assert page.count("<rect") == 12
    start = page.index("<svg")
    ElementTree.fromstring(page[start : page.index("</svg>", start) + 6])


def test_needles_in_a_models_context_fade_where_it_does_not_read() -> None:
    def forgetful(messages: list[Message]) -> str:
        """Reads the last 500 characters of a text alone."""
        text = messages[-1].content.split("\n\n")[0]
        numbers = [word.strip("。.") for word in text[-500:].replace("是", " ").split()]
        return next((word for word in numbers if word.isdigit()), "I do not know")

    config = NeedleConfig(lengths=(1000,), depths=(0.0, 1.0), languages=("en", "zh"), repeats=2)
    for grid in needle_grids(config, model=Echo(forgetful)):
        assert grid.mode == "context"
        assert grid.found == [[0.0, 1.0]]


def test_a_context_that_is_too_short_is_told() -> None:
    class Small(Echo):
        def chat(self, messages: object, sampling: object) -> object:  # type: ignore[override]
            raise FledgeError("too long")

    config = NeedleConfig(lengths=(500,), depths=(0.5,), languages=("en",), repeats=2)
    (grid,) = needle_grids(config, model=Small())
    assert (grid.found, grid.notes) == ([[0.0]], {"too long": 2})
    assert "2 x too long" in needle_page([grid])


def test_hay_of_ones_own() -> None:
    config = NeedleConfig(lengths=(300,), depths=(0.0, 1.0), languages=("en",), repeats=1)
    own = "Call me Ishmael. Some years ago I thought I would sail about a little."
    (grid,) = needle_grids(config, own=own)
    assert grid.share == 1.0
