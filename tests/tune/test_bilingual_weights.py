"""The bilingual embedder that ships: what it must be able to do, cheaply checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard

import fledge
from fledge.model.static_encoder import StaticEncoder

FOLDER = Path(fledge.__file__).parent / "index" / "weights" / "bilingual"


@pytest.fixture(scope="module")
def shipped() -> StaticEncoder:
    return StaticEncoder.load(FOLDER)


def test_it_is_small_and_has_its_card() -> None:
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    assert size <= 12_000_000
    card = (FOLDER / "CARD.md").read_text(encoding="utf-8")
    for word in ("CC BY-SA", "CC-CEDICT", "fledge embed train", "hit@10", "Limits"):
        assert word in card


def test_scripts_and_forms_do_not_matter(shipped: StaticEncoder) -> None:
    simplified, traditional = shipped.vectors(["机器学习与桥梁设计", "機器學習與橋梁設計"])
    assert simplified @ traditional > 0.999
    plain, wide = shipped.vectors(["Steel bridge 1990", "ＳＴＥＥＬ　bridge １９９０"])
    assert plain @ wide > 0.999


def test_words_find_their_translations(shipped: StaticEncoder) -> None:
    pairs = {"bridge": "桥梁", "river": "河流", "steel": "钢", "earthquake": "地震", "money": "錢"}
    pairs |= {"government": "政府", "computer": "电脑", "Beijing": "北京", "doctor": "醫生"}
    scores = shipped.vectors(list(pairs)) @ shipped.vectors(list(pairs.values())).T
    assert (scores.argmax(1) == np.arange(len(pairs))).all()
    assert (scores.argmax(0) == np.arange(len(pairs))).all()


@pytest.mark.shared
def test_it_crosses_languages(shipped: StaticEncoder, fledge_data: Path) -> None:
    """XQuAD's public half, 95 paragraphs: question in one language, passage in the other."""
    file = fledge_data / "xquad_en_zh" / "xquad.jsonl.zst"
    with file.open("rb") as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode()
    rows = [json.loads(line) for line in text.splitlines()]
    by = {name: [row for row in rows if row["lang"] == name] for name in ("en", "zh")}
    passages = {
        name: shipped.vectors([row["context"] for row in found]) for name, found in by.items()
    }
    for asked, found in (("zh", "en"), ("en", "zh"), ("en", "en"), ("zh", "zh")):
        wanted = [place for place, row in enumerate(by[asked]) for _ in row["qas"]]
        questions = [one["question"] for row in by[asked] for one in row["qas"]]
        order = (shipped.vectors(questions) @ passages[found].T).argsort(axis=1)[:, ::-1]
        hits = (order[:, :10] == np.array(wanted)[:, None]).any(axis=1).mean()
        assert hits >= (0.8 if asked != found else 0.9), (asked, found)
