"""An embedder is trusted with the languages it was measured to serve, and with no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fledge.index.embed.trust import (
    GATE,
    LanguageScore,
    measure_languages,
    read_languages,
    trust,
    write_languages,
)
from fledge.index.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How long is it?", "en"),
        ("L/800", "en"),
        ("FC-7", "en"),
        ("桥有多长", "zh-Hans"),
        ("橋有多長", "zh-Hant"),
        ("金山", "zh-Hans"),
        ("ALPHA 的导演是谁", "zh-Hans"),
        ("Golden Gate Bridge 多高？", "en"),
        ("東京タワーの高さは？", "ja"),
        ("다리는 얼마나 깁니까", "ko"),
        ("Quelle est la longueur du pont de Normandie ?", "fr"),
        ("Wie lang ist die Brücke über den Fluss?", "de"),
        ("Какова длина моста через реку?", "ru"),
        ("1937?", "und"),
        ("", "und"),
    ],
)
def test_language_of_a_question(text: str, language: str) -> None:
    assert language_of(text) == language


class Halves:
    """Knows English words: a text is the set of its letters; Chinese looks all alike."""

    name, revision, dimensions, languages = "halves", "1", 26, ()

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts])
        return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)).astype("f4")

    embed_queries = embed


def test_each_language_is_measured_by_itself() -> None:
    words = ["granite towers", "wooden deck", "steel cable", "buried pipe"]
    pairs = [(f"question about {word}", f"{word} and {word}") for word in words]
    pairs += [("橋在哪裡", "quite another thing"), ("橋有多長", "granite"), ("橋有多長", "wood")]
    scores = measure_languages(Halves(), pairs)
    assert scores["en"] == LanguageScore(mrr=1.0, questions=4, passages=4)
    assert scores["zh-Hant"].questions == 3


def test_the_rank_of_the_right_passage_is_counted_up_to_ten() -> None:
    class Known:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.array([[float(text)] for text in texts], dtype=np.float32)

        def embed_queries(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 1), dtype=np.float32)

    pairs = [(f"the question number {n}", str(n)) for n in range(1, 16)]
    expected = sum(1 / rank for rank in range(1, 11)) / 15
    assert measure_languages(Known(), pairs)["en"].mrr == pytest.approx(expected)


def test_trust_of_scripts_and_of_unknown_languages() -> None:
    measured = {"en": 0.9, "zh-Hans": 0.8, "zh-Hant": 0.6, "fr": GATE - 0.01}
    assert trust(measured, "zh-Hant") == 0.6
    assert trust(measured, "zh") == 0.6
    assert trust({"zh": 0.7}, "zh-Hant") == 0.7
    assert trust({"zh-Hans": 0.7}, "zh-Hant") == 0.7
    assert trust(measured, "fr") == 0
    assert trust(measured, "de") == 0
    assert trust(measured, "und") == 0.9


def test_figures_are_kept_beside_the_weights(tmp_path: Path) -> None:
    assert read_languages(tmp_path) is None
    write_languages(tmp_path, {"en": LanguageScore(mrr=0.91234, questions=9, passages=9)})
    assert read_languages(tmp_path) == {"en": 0.9123}
