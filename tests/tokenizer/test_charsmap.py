"""Maps of characters run by the tokenizers library: each character becomes what was asked."""

from __future__ import annotations

import random

import pytest

from fledge.tokenizer.charsmap import (
    mapping_normalizer,
    plain_characters,
    simplified_characters,
)
from fledge.tokenizer.lexicon import UNKNOWN, count_words, lexicon_tokenizer

FOLDING = {"臺": "台", "灣": "湾", "機": "机", "學": "学", "習": "习"}


def test_every_character_of_the_plain_map() -> None:
    table = plain_characters(FOLDING)
    normal = mapping_normalizer(table).normalize_str
    assert len(table) > 4000
    assert {one: normal(one) for one in table} == table
    assert normal("Café ＡＢＣ 臺灣，①") == "cafe abc 台湾,1"


def test_maps_at_random() -> None:
    """Keys that share their first bytes, and values of any length."""
    letters = random.Random(7)
    for size in (1, 2, 50, 3000):
        keys = letters.sample(range(0x4E00, 0x9FFF), size)
        table = {
            chr(key): "".join(letters.choices("abc漢", k=letters.randrange(3))) for key in keys
        }
        normal = mapping_normalizer(table).normalize_str
        for key, text in table.items():
            assert normal(f"<{key}>") == f"<{text}>"
        rest = next(chr(code) for code in range(0x4E00, 0x9FFF) if chr(code) not in table)
        assert normal(rest) == rest


def test_keys_are_single_characters() -> None:
    with pytest.raises(ValueError, match="single characters"):
        mapping_normalizer({"ab": "c"})


def test_the_majority_decides_what_is_simplified() -> None:
    pairs = {
        "皇后": "皇后",
        "後來": "后来",
        "以後": "以后",
        "乾淨": "干净",
        "乾坤": "乾坤",
        "乾杯": "干杯",
    }
    found = simplified_characters(pairs)
    assert found == {"後": "后", "來": "来", "乾": "干", "淨": "净"}


def test_words_are_cut_at_the_likeliest_places() -> None:
    counts = {
        "机器学习": 5,
        "机器": 90,
        "学习": 80,
        "我": 200,
        "python": 30,
        "1990": 2,
        "年": 9,
        "py": 500,
    }
    tokenizer = lexicon_tokenizer(counts, FOLDING)

    def tokens(text: str) -> list[str | None]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return [tokenizer.id_to_token(number) for number in ids]

    assert tokens("我機器學習") == ["我", "机器学习"]
    assert tokens("Python 1990年") == ["python", "1990", "年"]
    assert tokens("我Ω") == ["我", UNKNOWN]
    assert tokenizer.token_to_id(UNKNOWN) == 0


def test_words_are_counted_as_they_stand() -> None:
    found = count_words(["我學習機器學習", "機器"], ["机器学习", "机器", "学习", "我"], FOLDING)
    assert found == {"我": 1, "学习": 1, "机器学习": 1, "机器": 1}
