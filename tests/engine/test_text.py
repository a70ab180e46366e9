"""Streamed text: whole characters only, stops never shown, nothing lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.engine.text import TextStream


def feed(stream: TextStream, pieces: list[bytes]) -> list[str]:
    shown = []
    for piece in pieces:
        shown.append(stream.push(piece))
        if stream.stopped:
            return shown
    return [*shown, stream.close()]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_a_character_split_over_tokens_is_shown_whole() -> None:
    data = "桥🌉".encode()
    assert feed(TextStream(), [data[i : i + 1] for i in range(7)]) == [
        *("", "", "桥", "", "", "", "🌉"),
        "",
    ]


def test_an_unfinished_character_at_the_end_is_dropped() -> None:
    assert "".join(feed(TextStream(), ["大".encode(), "桥".encode()[:2]])) == "大"


def test_broken_bytes_are_replaced() -> None:
    assert "".join(feed(TextStream(), [b"a\xff", b"b"])) == "a\ufffdb"


def test_what_might_become_a_stop_is_held_and_then_released() -> None:
    stream = TextStream(["\nUser:"])
    assert feed(stream, [b"yes\nUs", b"e", b"d"]) == ["yes", "", "\nUsed", ""]
    assert feed(TextStream(["\nUser:"]), [b"yes\nUs"]) == ["yes", "\nUs"]


def test_a_stop_across_tokens() -> None:
    stream = TextStream(["END", "。"])
    assert feed(stream, [b"abcE", b"N", b"D more"]) == ["abc", "", ""]
    assert stream.stopped
    assert (stream.push(b"x"), stream.close()) == ("", "")


def test_the_earliest_of_several_stops_counts() -> None:
    stream = TextStream(["cd", "b"])
    assert feed(stream, [b"abcd"]) == ["a"]


@given(
    text=st.text(alphabet="ab桥🌉\n", max_size=30),
    places=st.lists(st.integers(0, 100), max_size=10),
    stops=st.lists(st.text(alphabet="ab桥\n", min_size=1, max_size=4), max_size=3),
)
def test_any_division_shows_the_same_text(text: str, places: list[int], stops: list[str]) -> None:
    stream = TextStream(stops)
    shown = feed(stream, cut(text.encode(), places))
    # The stop that is *complete* first ends the text, wherever the bytes were divided.
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert stream.stopped == bool(found)
    assert "".join(shown) == stream.text
    assert all("\ufffd" not in piece for piece in shown)
    if not found:
        assert stream.text == text
    else:
        assert text.startswith(stream.text)
        assert not any(stop in stream.text for stop in stops)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_division_does_not_move_the_stop(size: int) -> None:
    data = "大桥 bridge STOP tail".encode()
    stream = TextStream(["STOP"])
    feed(stream, [data[i : i + size] for i in range(0, len(data), size)])
    assert stream.text == "大桥 bridge "
