"""Citations: what is shown was checked, what no passage bears out is not shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_store import shelf

from fledge.rag.checks import bears_out
from fledge.rag.cite import Checker, Claims, split_claims
from fledge.rag.passage import Passage

TEXTS = {
    "humber": "The Humber Bridge opened in 1981. Its main span is 1,410 metres long. It is grey.",
    "golden": "The Golden Gate Bridge opened in 1937. It is painted orange. Fog often hides it.",
    "zhaozhou": "赵州桥建于隋朝大业年间。它的主拱跨度为37.02米。桥由李春设计，至今仍在使用。",
}


def passages() -> tuple[object, list[Passage]]:
    snapshot = shelf(TEXTS, per=3)
    found = snapshot.chunks([0, 1, 2])
    return snapshot, [
        Passage(span=one.span, text=one.text, path=one.path, score=1.0) for one in found
    ]


@pytest.mark.parametrize(
    ("sentence", "passage", "quote"),
    [
        ("The bridge opened in 1981.", "humber", "The Humber Bridge opened in 1981."),
        ("The main span is 1410 m long", "humber", "Its main span is 1,410 metres long."),
        ("The span measures 1,400 metres.", "humber", None),
        ("It opened in 1981 and is grey.", "humber", TEXTS["humber"]),
        ("It is painted red.", "golden", None),
        ("It is painted orange.", "golden", "It is painted orange."),
        ("赵州桥的设计者是李春。", "zhaozhou", TEXTS["zhaozhou"]),
        ("桥的设计者是李春。", "zhaozhou", "桥由李春设计，至今仍在使用。"),
        ("主拱跨度37.02米", "zhaozhou", "它的主拱跨度为37.02米。"),
        ("主拱跨度為37.02米", "zhaozhou", "它的主拱跨度为37.02米。"),
        ("主拱跨度为38米", "zhaozhou", None),
        ("桥由鲁班设计。", "zhaozhou", None),
        ("A plaque says “Fog often hides it”.", "golden", None),
        ("It is “painted orange”.", "golden", "It is painted orange."),
        ("It is not painted orange.", "golden", None),
        ("桥不是由李春设计。", "zhaozhou", None),
        ("It is “painted in orange”.", "golden", None),
    ],
)
def test_a_sentence_is_borne_out_by_the_fewest_sentences_that_hold_it(
    sentence: str, passage: str, quote: str | None
) -> None:
    text = TEXTS[passage]
    found = bears_out(sentence, text)
    assert (text[found.start : found.end] if found else None) == quote


def test_markers_become_the_words_they_stand_for() -> None:
    snapshot, known = passages()
    checker = Checker(
        question="When did the Humber Bridge open?", passages=known, snapshot=snapshot
    )
    checked = checker.check("The Humber Bridge opened in 1981 [1].")
    assert checked.text == "The Humber Bridge opened in 1981. [1]"
    assert checked.citations[0].quote == "The Humber Bridge opened in 1981."
    again = checker.check("It opened in 1981 [1].")
    assert again.text == "It opened in 1981. [1]"
    other = checker.check("赵州桥由李春设计【3】。")
    assert other.text == "赵州桥由李春设计。[2]"
    assert [one.marker for one in checker.citations] == ["[1]", "[2]"]


def test_a_wrong_marker_is_put_right_or_goes_with_its_sentence() -> None:
    snapshot, known = passages()
    checker = Checker(question="", passages=known, snapshot=snapshot)
    moved = checker.check("The Golden Gate Bridge opened in 1937 [1].")
    assert moved.citations[0].path == "golden.txt"
    assert "another passage does" in moved.note
    for lie in ("It opened in 1492 [1].", "It opened in 1492 [9].", "It opened in 1492."):
        gone = checker.check(lie)
        assert (gone.text, gone.citations) == ("", ())
        assert gone.dropped == "It opened in 1492."


def test_a_sentence_without_a_marker_gets_the_one_that_bears_it_out() -> None:
    snapshot, known = passages()
    checked = Checker(question="", passages=known, snapshot=snapshot).check("It is painted orange.")
    assert checked.text == "It is painted orange. [1]"
    assert checked.citations[0].quote == "It is painted orange."


def test_one_sentence_may_rest_on_two_passages() -> None:
    snapshot, known = passages()
    checker = Checker(question="", passages=[known[0], known[0]], snapshot=snapshot)
    assert checker.check("The Humber Bridge opened in 1981 [1, 2].").text.endswith(". [1]")


def test_a_passage_that_is_not_the_document_cannot_be_cited() -> None:
    snapshot, known = passages()
    forged = Passage(span=known[0].span, text="The Humber Bridge opened in 1066.", path="", score=1)
    checked = Checker(question="", passages=[forged], snapshot=snapshot).check(
        "The Humber Bridge opened in 1066 [1]."
    )
    assert checked.text == ""
    assert checked.note == "a quotation that its document lacks"


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("One thing. [1] Another. [2]", ["One thing. [1]", "Another. [2]"]),
        ("One thing [1]. Another [2][3].", ["One thing [1].", "Another [2][3]."]),
        ("第一件事。[1]第二件事【2】。", ["第一件事。[1]", "第二件事【2】。"]),
        ("- One [1]\n- Two [2]", ["- One [1]", "- Two [2]"]),
    ],
)
def test_markers_stay_with_the_sentence_before_them(text: str, claims: list[str]) -> None:
    assert [claim.text for claim in split_claims(text)] == claims


PIECES = st.sampled_from(
    [
        "It opened in 1937.",
        " ",
        "[1]",
        " [2]",
        "桥很长。",
        "【1】",
        "\n",
        "Dr. Li said so",
        "!",
        "\n\n",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join), st.integers(1, 7))
def test_a_stream_gives_the_claims_of_the_whole(text: str, size: int) -> None:
    claims = Claims()
    found = []
    for start in range(0, len(text), size):
        found += claims.feed(text[start : start + size])
    found += claims.end()
    whole = "".join(claim.text for claim in split_claims(text))
    assert "".join("".join(claim.text for claim in found).split()) == "".join(whole.split())


@settings(max_examples=100, deadline=None)
@given(
    st.text(alphabet="The Humber Bridge opened in 1981. [1]赵州桥李春设计37.02米，。", max_size=60)
)
def test_whatever_a_model_writes_what_is_shown_is_in_the_documents(text: str) -> None:
    snapshot, known = passages()
    checker = Checker(question="", passages=known, snapshot=snapshot)
    for claim in split_claims(text):
        checked = checker.check(claim.text)
        for one in checked.citations:
            document = snapshot.document(one.span.document)
            assert document is not None
            assert one.span.quote(document) == one.quote
            assert one.marker in checked.text
