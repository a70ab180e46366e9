"""Tokens counted without a tokenizer: the short ways say what the long one does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fledge.index.split import measure
from fledge.index.split.measure import cheap_starts

MARKED = "e\u0301a\u200db👍🏽🇩🇪🇫🇷\ufe0f"
PLAIN = "abcXYZ 0123_-.,é桥長กा가ß½²\x1c\x85\u00a0ﬁ٣\n\t"


@given(
    st.one_of(
        st.text(),
        st.text(PLAIN),
        st.text(PLAIN + MARKED),
        st.text(st.characters(max_codepoint=127)),
    )
)
def test_short_ways_find_the_same_tokens(text: str) -> None:
    assert cheap_starts(text) == [match.start() for match in measure._TOKEN.finditer(text)]


def test_tokens_are_six_letters_three_digits_or_a_character() -> None:
    assert cheap_starts("concrete 12345 桥长") == [0, 6, 9, 12, 15, 16]
    assert cheap_starts("🇩🇪🇫🇷 👍🏽") == [0, 2, 5]
