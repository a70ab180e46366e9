"""Charts and markup: escaped whatever comes, axes that enclose, nothing drawn from nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.report.html import Html, Number, element, join, table, term
from fledge.report.svg import (
    MOST_POINTS,
    Series,
    axis_label,
    bars,
    interval_bar,
    line_chart,
    smooth,
    thin,
    ticks,
)
from fledge.report.words import compact, count, duration, percent, size

floats = st.floats(-1e9, 1e9).map(lambda x: round(x, 6))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf"])))
def test_text_is_escaped_and_nothing_else_happens_to_it(text: str) -> None:
    shown = str(join(text))
    assert unescape(shown) == text
    assert not set("<>\"'") & set(shown)


def test_attributes_are_escaped_and_named() -> None:
    made = element("a", "x & y", class_="b", data_n=1, title='"><script>', hidden=True, id=None)
    assert made == ('<a class="b" data-n="1" title="&quot;&gt;&lt;script&gt;" hidden>x &amp; y</a>')


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\ud800", "\u202e", "\u2066"])
def test_forbidden_characters_are_replaced(character: str) -> None:
    assert join(f"a{character}b") == "a\ufffdb"
    join(character).encode("utf-8")


def test_markup_passes_and_nests() -> None:
    inner = element("b", "1 < 2")
    assert isinstance(inner, Html)
    assert element("p", [inner, None, 3]) == "<p><b>1 &lt; 2</b>3</p>"
    assert term("Corpus", "") == "Corpus"
    assert "语料" in term("Corpus", "语料")


def test_a_column_of_numbers_is_marked() -> None:
    made = table(("Name", Number("n")), [("a", "1")])
    assert '<th class="number" scope="col">n</th>' in made
    assert '<td class="number">1</td>' in made
    assert "<td>a</td>" in made


@given(floats, floats, st.integers(2, 10))
def test_ticks_enclose_their_range(one: float, two: float, about: int) -> None:
    low, high = min(one, two), max(one, two)
    found = ticks(low, high, about)
    slack = 1e-6 * max(abs(low), abs(high), 1e-6)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 2 * about + 2
    assert found == sorted(set(found))


@given(st.lists(st.tuples(floats, floats), max_size=1500))
def test_thinning_keeps_the_end_and_the_range(points: list[tuple[float, float]]) -> None:
    few = thin(points)
    assert len(few) <= MOST_POINTS
    if points:
        assert few[-1] == points[-1]
        ys = [y for _, y in points]
        assert all(min(ys) - 1e-3 <= y <= max(ys) + 1e-3 for _, y in few)


def test_smoothing_is_the_running_mean() -> None:
    points = [(float(i), float(y)) for i, y in enumerate((2, 4, 6, 8))]
    assert [y for _, y in smooth(points, 2)] == [2, 3, 5, 7]
    assert smooth(points, 1) == points


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=50))
def test_any_numbers_make_a_well_formed_chart(points: list[tuple[float, float]]) -> None:
    made = line_chart([Series(name="<a>", points=points)], x_label="steps", y_label="y", title="t")
    ET.fromstring(made)
    assert "nan" not in made
    assert "inf" not in made


def test_a_chart_names_its_lines_and_shows_values() -> None:
    one = Series(name="training", points=[(0, 3.0), (10, 2.0)])
    two = Series(name="held out", points=[(10, 2.5)], colour=2, dots=True)
    made = line_chart([one, two], x_label="steps", y_label="nats", title="Loss")
    assert "training</span>" in made
    assert "held out: 2.5 at 10 steps" in made
    assert line_chart([], x_label="x", y_label="y", title="t") == (
        '<p class="quiet">No values yet.</p>'
    )


def test_labels_of_an_axis_share_a_unit() -> None:
    axis = [0.0, 5_000.0, 10_000.0]
    assert [axis_label(value, axis) for value in axis] == ["0", "5 k", "10 k"]
    assert axis_label(0.005, [0.0, 0.005]) == "0.005"
    assert axis_label(2e6, [0.0, 2e6]) == "2 M"


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_interval_bars_stay_inside(value: float, low: float, high: float) -> None:
    made = ET.fromstring(interval_bar(value, low, high, tip="<tip>"))
    widths = [float(rect.get("width", "0")) for rect in made.iter("rect")]
    assert all(0 <= width <= 180 for width in widths)


def test_bars_of_nothing_and_of_zeros() -> None:
    assert bars([]) == '<div class="bars"></div>'
    assert "width:0.00%" in bars([("a", 0.0, "0")])


def test_words() -> None:
    assert count(1234567.0) == "1,234,567"
    assert [compact(x) for x in (12, 1234, 12345, 1.5e6)] == ["12", "1,234", "12.3 k", "1.5 M"]
    assert percent(0.1234) == "12.3\u00a0%"
    assert [duration(x) for x in (1.25, 59.4, 59.7, 3599.7, 7300)] == [
        "1.2 s", "59 s", "1 min 00 s", "1 h 00 min", "2 h 01 min",
    ]  # fmt: skip
    assert [size(x) for x in (12, 1234, 5e6)] == ["12 bytes", "1.2 kB", "5.0 MB"]


def test_a_heat_map_has_a_field_for_each_value() -> None:
    from fledge.report.heat_map import colour, heat_map

    shown = heat_map(
        [[0.0, 0.5], [1.0, 0.25]],
        rows=["1,000", "<b>"],
        columns=["0 %", "100 %"],
        title="Found",
        axes=("tokens", "depth"),
    )
    assert shown.count("<rect") == 4
    assert "tokens 1,000, depth 100 %: 50%" in shown
    assert "&lt;b&gt;" in shown
    assert (colour(-1), colour(0.5), colour(2)) == ("#b3362b", "#f6edc8", "#1a7f4b")
    with pytest.raises(ValueError, match="value for each"):
        heat_map([[1.0]], rows=["a"], columns=["b", "c"], title="", axes=("", ""))
