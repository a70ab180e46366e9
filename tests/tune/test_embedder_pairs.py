"""Batches of pairs, and negatives mined for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fledge.core.protocols import Silent
from fledge.tune.embedder_config import MineConfig
from fledge.tune.embedder_held_out import rank_figures, retrieval_ranks, source_reports
from fledge.tune.embedder_loader import PairBatches
from fledge.tune.embedder_mining import hard_negatives, mine_negatives
from fledge.tune.embedder_rows import PairRow, parse_row, read_pair_rows, set_apart
from pico_embedder import write_pairs


def letters(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def rows_of(source: str, count: int) -> list[PairRow]:
    return [
        parse_row(
            {"query": f"{source}{n}?", "positive": f"{source}{n}!", "negatives": [f"-{n}"]}, source
        )
        for n in range(count)
    ]


def batches(rows: list[PairRow], **changes: object) -> PairBatches:
    settings = {"batch_rows": 4, "negatives": 0, "seed": 1, **changes}
    return PairBatches(rows, letters, **settings)  # type: ignore[arg-type]


def test_an_epoch_reads_every_pair_of_whole_batches_once() -> None:
    found = batches([*rows_of("a", 8), *rows_of("b", 9)])
    read: Counter[int] = Counter()
    for step in range(found.steps_per_epoch):
        items = found.items(step)
        assert len({found.rows[item].source for item in items}) == 1
        read.update(items.tolist())
    assert found.steps_per_epoch == 4  # the ninth of b has none to be told from
    assert set(read.values()) == {1}
    assert len(read) == 16
    again = [found.items(step).tolist() for step in range(8)]
    assert again[:4] != again[4:]
    assert again == [
        batches([*rows_of("a", 8), *rows_of("b", 9)]).items(s).tolist() for s in range(8)
    ]


def test_sources_are_read_as_often_as_asked() -> None:
    found = batches([*rows_of("a", 8), *rows_of("b", 8)], repeats={"a": 2.5, "b": 0})
    read = Counter(int(item) for step in range(found.steps_per_epoch) for item in found.items(step))
    assert sum(read.values()) == 20
    assert set(read) == set(range(8))
    assert set(read.values()) == {2, 3}


def test_a_batch_holds_queries_positives_and_negatives() -> None:
    taught = {"a1!": np.array([0.0, 1.0], dtype=np.float32)}
    found = batches(rows_of("a", 4), negatives=2, taught=taught)
    batch = found[0]
    texts = [found.rows[item] for item in found.items(0)]
    assert batch.ids.shape[0] == 16
    for place, row in enumerate(texts):
        for at, text in (
            (place, row.query),
            (4 + place, row.positive),
            (8 + 2 * place, row.negatives[0]),
        ):
            kept = batch.weights[at] > 0
            assert "".join(map(chr, batch.ids[at][kept].tolist())) == text
        assert not batch.weights[9 + 2 * place].any()  # it has one negative only
    assert batch.signals is not None
    shown = {n: batch.signals[4 + n].tolist() for n, row in enumerate(texts)}
    assert shown[[row.positive for row in texts].index("a1!")] == [0.0, 1.0]
    assert sum(map(any, shown.values())) == 1


def test_equal_texts_have_equal_numbers() -> None:
    rows = [parse_row({"en": "bridge", "zh": zh}, "w") for zh in ("桥", "桥梁")]
    batch = batches(rows)[0]
    numbers = batch.segments[:, 0].tolist()
    assert numbers[2] == numbers[3]
    assert len(set(numbers)) == 3


def test_the_data_and_its_order_are_named() -> None:
    first = batches(rows_of("a", 8)).fingerprint()
    assert first == batches(rows_of("a", 8)).fingerprint()
    others = [
        batches(rows_of("a", 9)),
        batches(rows_of("a", 8), seed=2),
        batches(rows_of("a", 8), repeats={"a": 2}),
        batches(rows_of("a", 8), negatives=1),
    ]
    assert first not in {one.fingerprint() for one in others}


def test_what_is_held_out_is_not_trained_on() -> None:
    rows = rows_of("a", 500)
    trained, held = set_apart([*rows, *rows], 0.2)
    assert 120 <= len(held) <= 280
    assert not {row.positive for row in trained} & {row.positive for row in held}


def test_whom_a_teacher_reads() -> None:
    pair = {"query": "What is a bridge?", "positive": "桥是建筑。"}
    assert parse_row(pair, "s").taught == ("What is a bridge?", None)
    assert parse_row(pair, "s", "all").taught == ("What is a bridge?", "桥是建筑。")
    assert parse_row(pair, "s", "none").taught == (None, None)
    assert parse_row({"en": "bridge", "zh": "桥"}, "s", "none").taught == ("bridge", "bridge")


def test_negatives_stay_below_the_right_text() -> None:
    """0.96 of the positive's score is suspiciously near; 0.94 is a negative."""
    scores = np.array([0.5, 0.48, 0.47, 0.1, 0.6], dtype=np.float32)
    config = MineConfig(negatives=2, most=0.95)
    assert hard_negatives(scores, {0}, config) == [2, 3]
    assert hard_negatives(scores, {0, 4}, config) == [1, 2]
    assert hard_negatives(scores, {0}, MineConfig(negatives=1, skip=3)) == [3]
    assert hard_negatives(scores, {0}, MineConfig(depth=1)) == []
    assert (
        hard_negatives(-scores, {0}, MineConfig()) == []
    )  # the embedder does not know the right one


def test_mining_keeps_to_wrong_texts(tmp_path: Path) -> None:
    """Both answers of a question are right, and so are the questions' own."""
    places = {
        "q1": (1, 0),
        "q2": (0.8, 0.6),
        "a": (1, 0.1),
        "b": (0.95, 0.3),
        "c": (0.8, 0.6),
        "d": (0, 1),
    }

    def embed(texts: list[str]) -> np.ndarray:
        found = np.array([places[text] for text in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    rows = [
        {"query": "q1", "positive": "a"},
        {"query": "q1", "positive": "b"},
        {"query": "q2", "positive": "c"},
        {"query": "q2", "positive": "d"},
    ]
    file = write_pairs(tmp_path / "pairs.jsonl", rows)
    found = list(mine_negatives(read_pair_rows([file]), embed, MineConfig(most=0.9), Silent()))  # type: ignore[arg-type]
    assert [one.get("negatives", []) for one in found] == [["c", "d"], ["c", "d"], ["a"], ["a"]]
    again = read_pair_rows([write_pairs(tmp_path / "mined.jsonl", found)])
    assert again[0].negatives == ("c", "d")


def test_ranks_by_hand() -> None:
    def embed(texts: list[str]) -> np.ndarray:
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    rows = [parse_row({"query": "x", "positive": "p" * n}, "s") for n in (1, 2, 3)]
    assert retrieval_ranks(embed, rows) == [3, 2, 1]  # type: ignore[arg-type]
    figures = rank_figures([3, 2, 1, 11])
    assert figures["hit1"] == 0.25
    assert figures["hit10"] == 0.75
    assert figures["mrr"] == pytest.approx((1 / 3 + 1 / 2 + 1) / 4)
    (report,) = source_reports(embed, rows)  # type: ignore[arg-type]
    assert (report["source"], report["queries"], report["passages"]) == ("s", 3, 3)
    assert report["mrr_ci95"][0] <= report["mrr"] <= report["mrr_ci95"][1]
