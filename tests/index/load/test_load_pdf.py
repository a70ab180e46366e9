"""PDFs: lines become paragraphs, pages places, and every word knows where it is drawn."""

from __future__ import annotations

import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import at_places, load, load_one, refusal
from made_pdf import PAGE, Line, paragraph, pdf

from fledge.index.load.config import Limits, LoadConfig
from fledge.index.load.marking import highlight
from fledge.index.load.pdf_lines import Char, set_page
from fledge.index.loaded import Loaded

BRIDGE = (
    "The bridge over the Arrow was opened in May 1932 and carries two lanes of traffic across the "
    "river. Its deck is hung from forty steel cables, each of which is inspected twice a year."
)
CHINESE = "這座橋於一九三二年五月通車，橋面以四十條鋼纜懸吊，每年檢查兩次。"


def test_lines_that_fill_their_column_become_one_paragraph() -> None:
    loaded = load_one("a.pdf", pdf([paragraph(BRIDGE)]))
    assert loaded.document.text == BRIDGE
    assert loaded.kind == "plain"
    assert loaded.document.lang == "en"


def test_chinese_lines_join_without_blanks() -> None:
    lines = [(72.0, 700.0 - 16 * n, CHINESE[9 * n : 9 * n + 9]) for n in range(4)]
    loaded = load_one("a.pdf", pdf([lines]))
    assert loaded.document.text == CHINESE
    assert loaded.document.lang == "zh-Hant"


def column(texts: list[str], left: float = 72.0) -> list[Line]:
    return [(left, 700.0 - 14 * number, text) for number, text in enumerate(texts)]


def test_ragged_lines_join_where_the_next_word_did_not_fit() -> None:
    prose = ["The deck is closed", "nevertheless to all", "who come on foot or", "with horses."]
    assert load_one("a.pdf", pdf([column(prose)])).document.text == " ".join(prose)
    listed = ["Iron", "Stone from the hills", "Oak", "Rope", "Paint"]
    assert load_one("a.pdf", pdf([column(listed)])).document.text == "\n".join(listed)


def test_a_sentence_runs_on_in_the_next_column() -> None:
    first = column(["Each of the cables is", "looked at by two of the"])
    second = column(["masons. In the spring", "it is painted."], left=320)
    text = load_one("a.pdf", pdf([first + second])).document.text
    assert (
        text == "Each of the cables is looked at by two of the masons. In the spring it is painted."
    )


def test_short_lines_gaps_and_other_sizes_stay_apart() -> None:
    verse = [(72.0, 700.0, "Iron and stone"), (72.0, 686.0, "a long line that reaches the edge of"),
             (72.0, 672.0, "the page"), (72.0, 620.0, "A new paragraph")]  # fmt: skip
    text = load_one("a.pdf", pdf([verse])).document.text
    assert (
        text == "Iron and stone\na long line that reaches the edge of the page\n\nA new paragraph"
    )


def test_items_of_a_list_and_of_contents_stay_lines() -> None:
    lines = [
        (72.0, 700.0, "1. Loads that act on the deck"),
        (72.0, 686.0, "2. Loads that act on a pier."),
        (72.0, 650.0, "Loads . . . . . . . . . . . 7"),
        (72.0, 636.0, "Spans . . . . . . . . . . . 9"),
    ]
    text = load_one("a.pdf", pdf([lines])).document.text
    assert text.split("\n") == [lines[0][2], lines[1][2], "", lines[2][2], lines[3][2]]


def test_a_hyphen_that_broke_a_word_goes_and_its_halves_keep_their_boxes() -> None:
    lines = [(72.0, 700.0, "The cables are under the manage-"), (72.0, 686.0, "ment of the town.")]
    loaded = load_one("a.pdf", pdf([lines]))
    text = loaded.document.text
    assert text == "The cables are under the management of the town."
    start = text.index("management")
    first, second = highlight(loaded.boxes, start, start + len("management"))
    assert (text[first.start : first.end], text[second.start : second.end]) == ("manage", "ment")
    assert first.bottom > second.bottom
    assert second.left == pytest.approx(72, abs=0.5)


def test_pages_are_places_and_a_page_without_text_is_named() -> None:
    loaded = load_one("a.pdf", pdf([paragraph("Page one."), [], paragraph("Page three.")]))
    assert at_places(loaded) == {"page 1": "Page one.", "page 3": "Page three."}
    assert loaded.document.metadata["pages"] == 3
    assert loaded.document.metadata["pages_without_text"] == [2]
    assert {box.page for box in loaded.boxes} == {1, 3}


def test_title_author_and_date_are_those_of_the_file() -> None:
    info = "/Title (On Bridges) /Author (A. Mason) /CreationDate (D:20210304050607Z)"
    document = load_one("a.pdf", pdf([paragraph("Text.")], info=info)).document
    assert document.date == "2021-03-04"
    assert document.metadata == {
        "format": "pdf",
        "title": "On Bridges",
        "author": "A. Mason",
        "pages": 1,
        "date_from": "text",
    }


@pytest.mark.parametrize("corner", [(0, 0), (-50, 30)])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_boxes_are_measured_on_the_page_as_it_is_shown(
    rotate: int, corner: tuple[float, float]
) -> None:
    left, baseline = 100.0, 500.0
    line = (corner[0] + left, corner[1] + baseline, "word")
    [box] = load_one("a.pdf", pdf([[line]], rotate=rotate, corner=corner)).boxes
    width, height = PAGE
    middle = (left + 4 * 0.6 * 12 / 2, baseline + 3)  # Courier: 0.6 em a character
    across, up = middle
    shown = {
        0: middle,
        90: (up, width - across),
        180: (width - across, height - up),
        270: (height - up, across),
    }[rotate]
    assert box.left <= shown[0] <= box.right
    assert box.bottom <= shown[1] <= box.top
    long, short = sorted((box.right - box.left, box.top - box.bottom), reverse=True)
    assert long == pytest.approx(4 * 0.6 * 12, abs=1.5)
    assert 8 < short < 20


def test_half_a_word_is_highlighted_in_proportion() -> None:
    loaded = load_one("a.pdf", pdf([[(72.0, 700.0, CHINESE[:11])]]))
    start = loaded.document.text.index("三二年")
    [box] = highlight(loaded.boxes, start, start + 3)
    assert box.left == pytest.approx(72 + 12 * start, abs=1)
    assert box.right == pytest.approx(72 + 12 * (start + 3), abs=1)
    assert highlight(loaded.boxes, 0, 0) == []


def test_every_word_of_a_page_lies_where_it_was_set() -> None:
    lines = paragraph(BRIDGE)
    loaded = load_one("a.pdf", pdf([lines]))
    text = loaded.document.text
    expected = [
        (found[0], left + 7.2 * found.start(), baseline)
        for left, baseline, line in lines
        for found in re.finditer(r"\S+", line)
    ]
    assert len(loaded.boxes) == len(expected)
    for box, (word, left, baseline) in zip(loaded.boxes, expected, strict=True):
        assert text[box.start : box.end] == word
        assert box.left == pytest.approx(left, abs=0.6)
        assert box.right == pytest.approx(left + 7.2 * len(word), abs=0.6)
        assert box.bottom < baseline < box.top


@settings(max_examples=60, deadline=None)
@given(
    pages=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([40.0, 72.0, 300.0]),
                st.integers(50, 800).map(float),
                st.one_of(
                    st.text("abcdefg -.(", min_size=1, max_size=30),
                    st.text("橋鋼纜年，。ﬁ⼀𠀀", min_size=1, max_size=12),
                ),
            ),
            max_size=8,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_places_and_boxes_are_exact_whatever_the_page_holds(pages: list[list[Line]]) -> None:
    for item in load("a.pdf", pdf(pages)):
        if isinstance(item, Loaded):
            assert "\n\n".join(at_places(item).values()) == item.document.text


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=0, max_size=1),
            st.booleans(),
            st.floats(0, 500),
            st.floats(0, 500),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_setting_any_characters_gives_words_that_are_their_text(
    drawn: list[tuple[str, bool, float, float, bool]],
) -> None:
    characters = [
        Char(text, (left, bottom, left + 5, bottom + 10) if shown else None, hyphen)
        for text, shown, left, bottom, hyphen in drawn
    ]
    text, words = set_page(characters)
    before = 0
    for word in words:
        assert before <= word.start < word.end <= len(text)
        assert text[before : word.start].strip() == ""
        assert not any(c.isspace() for c in text[word.start : word.end])
        before = word.end
    assert before == len(text)


def test_what_cannot_be_read_whole_is_refused_with_the_reason() -> None:
    whole = pdf([paragraph(BRIDGE)], packed=True)
    assert refusal("a.pdf", pdf([[], []])).reason == "no_text"
    assert refusal("a.pdf", whole[:-200]).reason == "truncated"
    assert refusal("a.pdf", b"no PDF at all, only a name").reason == "broken"
    spot = whole.rindex(b"stream\n", 0, whole.rindex(b"endstream")) + 30
    damaged = whole[:spot] + bytes([whole[spot] ^ 0xFF]) + whole[spot + 1 :]
    assert refusal("a.pdf", damaged).reason == "damaged"
    locked = whole.replace(
        b"/Root 1 0 R",
        b"/Root 1 0 R /Encrypt << /Filter /Standard /V 2 /R 3 "
        b"/Length 128 /P -44 /O (" + b"o" * 32 + b") /U (" + b"u" * 32 + b") >> /ID [(a) (a)]",
    )
    assert refusal("a.pdf", locked).reason == "encrypted"


def test_a_stream_that_was_flushed_but_not_finished_is_whole() -> None:
    whole = pdf([paragraph(BRIDGE)])
    start = whole.index(b"stream\n", whole.index(b"11 0 obj")) + 7
    content = whole[start : whole.index(b"\nendstream", start)]
    packer = zlib.compressobj()
    packed = packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)
    head = f"/Length {len(content)} >>".encode()
    flushed = whole.replace(head, f"/Length {len(packed)} /Filter /FlateDecode >>".encode())
    flushed = flushed.replace(content, packed)
    assert load_one("a.pdf", flushed).document.text == BRIDGE
    assert refusal("a.pdf", flushed.replace(packed, packed[:-4])).reason == "damaged"


def test_a_damaged_stream_is_read_when_that_is_asked_for() -> None:
    whole = pdf([paragraph(BRIDGE), paragraph("The second page.")], packed=True)
    spot = whole.rindex(b"endstream") - 6
    damaged = whole[:spot] + b"\0\0\0\0" + whole[spot + 4 :]
    assert refusal("a.pdf", damaged).reason == "damaged"
    loaded = load_one("a.pdf", damaged, LoadConfig(pdf_repair=True))
    assert loaded.document.text.startswith(BRIDGE)


def test_limits_of_pages_and_characters() -> None:
    pages = pdf([paragraph("One."), paragraph("Two.")])
    for limits in (Limits(pages=1), Limits(characters=6)):
        item = refusal("a.pdf", pages, LoadConfig(limits=limits))
        assert item.reason == "too_large"
        assert "limits." in item.evidence


def test_boxes_can_be_left_out() -> None:
    assert load_one("a.pdf", pdf([paragraph(BRIDGE)]), LoadConfig(boxes=False)).boxes == ()
