"""Search terms: what is one word to a reader is one term, in both scripts of Chinese."""

from __future__ import annotations

import hashlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.index.terms import MAX_LENGTH, STOP_WORDS, VERSION, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The bridges' spans were measured", ["bridg", "span", "measur"]),
        ("Don't we'll it's BRIDGE'S", ["bridg"]),
        ("WHO says IT works; who says it works", ["who", "say", "it", "work", "say", "work"]),
        ("U.S. Army", ["us", "armi"]),
        ("1,280 m and 3.14 in 1937", ["1280", "m", "3.14", "1937"]),
        ("L/800", ["l/800", "l", "800"]),
        ("parse_config", ["parse_config", "pars", "config"]),
        ("getHTTPResponse", ["gethttpresponse", "get", "http", "respons"]),
        ("C++ and C#", ["c++", "c", "c#", "c"]),
        ("x86-64", ["x86-64", "x", "86", "64"]),
        ("naïve Straße", ["naiv", "straße"]),
        ("金门大桥", ["金", "门", "大", "桥", "金门", "门大", "大桥"]),
        ("橋樑", ["桥", "梁", "桥梁"]),
        ("臺灣", ["台", "湾", "台湾"]),
        ("香港", ["香", "港", "香港"]),
        ("ＡＢＣ１２３", ["abc123", "abc", "123"]),
        ("主跨1280米", ["主", "跨", "主跨", "1280", "米"]),
        ("東京タワー", ["东", "京", "タ", "ワ", "ー", "东京", "京タ", "タワ", "ワー"]),
        ("Мост и नमस्ते", ["мост", "и", "नमस्ते"]),
        ("!? … 。", []),
        ("", []),
    ],
)
def test_terms_of(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_question_in_one_script_finds_the_other() -> None:
    assert terms("後來於臺灣發展橋樑") == terms("后来于台湾发展桥梁")
    assert terms("面條與裡面") == terms("面条与里面")


def test_stop_words_are_words_of_grammar() -> None:
    assert terms("what is the of and to") == []
    assert all(word == word.lower() and word.isalpha() for word in STOP_WORDS)
    assert not STOP_WORDS & {"bridge", "will", "may", "new", "first", "us", "one", "over", "under"}


@given(st.text(max_size=200))
def test_terms_are_short_words_without_blanks_and_repeat(text: str) -> None:
    found = terms(text)
    assert found == terms(text)
    assert all(term and len(term) <= MAX_LENGTH for term in found)
    assert not any(one.isspace() for term in found for one in term)


@given(st.text(alphabet="aB1.,:/&@#+'-_ \n(", max_size=60))
def test_text_in_ascii_has_the_terms_it_has_beside_other_characters(text: str) -> None:
    assert terms(text) == terms(text + " …")


@given(st.lists(st.sampled_from(["bridge", "橋", "L/800", "a_b", "WHO", "1,000"]), max_size=8))
def test_a_text_has_the_terms_of_its_words(words: list[str]) -> None:
    assert terms(" ".join(words)) == [term for word in words for term in terms(word)]


def test_threads_stem_alike() -> None:
    words = [f"{stem}{ending}" for stem in ("measur", "relat", "span") for ending in ("ing", "ed")]
    alone = terms(" ".join(words))
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.extend(terms(" ".join(words)) for _ in range(50)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 200


def test_the_rules_of_this_version_are_these() -> None:
    """When this fails, indexes made before do not match queries made now: raise VERSION."""
    folded = "".join(
        terms(chr(point))[0]
        for block in ((0x3400, 0x4DC0), (0x4E00, 0xA000))
        for point in range(*block)
    )
    words = "relational conditional happily generously national sky skies dying ties news"
    stems = " ".join(terms(words))
    digest = hashlib.sha256(f"{folded} {stems} {sorted(STOP_WORDS)}".encode()).hexdigest()[:16]
    assert (VERSION, digest) == (1, "be6f08e6a5d754ba")
