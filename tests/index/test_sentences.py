"""Sentences of English and Chinese, as spans that hold all of a text that is not blank."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.index.sentences import sentences

EXAMPLES = {
    "abbreviations": (
        "Dr. Smith met J. R. Tolkien of the U.S. Army, e.g. at Fig. 3 or No. 5.| He left."
    ),
    "after abbreviations": (
        "It opened in the U.S.| The span is long.| He left at 5 p.m.| It rained, etc.| We went."
    ),
    "decimals": "It cost $3.14 or 1.5 m.| Version 2.0.1 is out.| See a.b/c?d=e now.",
    "quotes": '"Really?" she asked.| "Yes."| He smiled.| (All was well.)| So it ended.',
    "marks": "What?!| Wait...| No!| One... and two.| Done.[2]| More.",
    "wrapped lines": (
        "A paragraph that was wrapped by an editor at some width or\n"
        "other goes on in its next line until it ends.| Another one\nfollows."
    ),
    "headings and lists": (
        "# A title\n¦Text begins here.\n¦- one\n¦- two. \n¦1. First thing\n¦2. Second thing\n\n"
        "¦| a | b |\n¦|---|---|\n¦| 1 | 2 |"
    ),
    "short lines": "Golden Gate Bridge\n|San Francisco\n|\nCalifornia",
    "chinese": "橋梁很長。|它有多長？|真長！！|「是嗎？」|他問道。|一千米；|還有3.5米。|完",
    "chinese quotes": "他说：“好。”|然后走了……还没完。|（见图。）|完了!|真的?|是。",
    "chinese laws": "第一章 總則\n|第一條 為了安全，特制定本法。\n|一、橋梁。\n|（二）涵洞",
    "mixed": "主跨为 L/800。|The span is 1.5 km.| Node.js很好！|见 v1.2 版。",
    "line endings": "One line here\r\n\r\n|Another one\r|",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_sentences_end_where_a_reader_would_end_them(name: str) -> None:
    sign = "¦" if "¦" in EXAMPLES[name] else "|"  # a table has bars of its own
    parts, text = EXAMPLES[name].split(sign), EXAMPLES[name].replace(sign, "")
    found = [text[start:end] for start, end in sentences(text)]
    assert found == [part.strip() for part in parts if part.strip()]


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(max_size=300),
        st.text(alphabet="aA1.!?。！？；」\"' \n\r\t-#|…", max_size=100),
    )
)
def test_spans_hold_all_that_is_not_blank(text: str) -> None:
    spans = sentences(text)
    covered = {at for start, end in spans for at in range(start, end)}
    assert covered >= {at for at, one in enumerate(text) if not one.isspace()}
    for start, end in spans:
        assert text[start:end] == text[start:end].strip() != ""
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


@pytest.mark.parametrize(
    "hostile", ["a" * 200_000, ". " * 100_000, " " * 200_000 + "x", "(" * 100_000, "x\n" * 100_000]
)
def test_time_grows_with_the_length_only(hostile: str) -> None:
    begun = time.process_time()
    sentences(hostile)
    assert time.process_time() - begun < 5
