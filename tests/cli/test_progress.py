"""Progress: the live table at any width, plain lines without a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fledge.cli.progress import _Bars, _Lines, _RichBar
from fledge.cli.progress_table import figure_line, figure_table
from fledge.core.protocols import TableBar

FIGURES = {
    "loss": "2.346",
    "tokens/s": "1,306,812",
    "MFU": "64%",
    "grad norm": "0.832",
    "rate": "5.12e-03",
    "memory": "101.23 GB",
    "waiting": "0%",
}
CHINESE = {"损失": "2.346", "梯度范数": "0.832", "词元/秒": "6,812", "余时": "三分钟", "": ""}


def shown(figures: dict[str, str], width: int) -> list[str]:
    """What a terminal of this width shows of a bar with figures, line by line."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, record=True)
    with _Bars(console).bar("pretrain", 2.2e9, "tokens", 1.1e9) as bar:
        assert isinstance(bar, _RichBar)
        assert isinstance(bar, TableBar)
        bar.advance(1000, note="loss 2.3")
        bar.table(figures)
        bar.advance(1000, note="loss 2.3")
        frame = bar._shown.get_renderable()
    picture = Console(file=io.StringIO(), width=width, record=True)
    picture.print(frame)
    return [line.rstrip() for line in picture.export_text().splitlines() if line.strip()]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("figures", [FIGURES, CHINESE])
def test_all_figures_are_there_and_nothing_is_wider_than_the_terminal(
    figures: dict[str, str], width: int
) -> None:
    lines = shown(figures, width)
    assert max(map(cell_len, lines)) <= width
    bar, names, values = lines  # one line each
    assert "1.10 Gtokens of 2.20 Gtokens" in bar
    assert "loss" not in bar
    assert names.split() == " ".join(figures).split()
    assert values.split() == " ".join(figures.values()).split()
    for name, value in figures.items():  # a value begins below its name, in cells
        if name:
            before = names[: names.index(name)]
            assert cell_len(before) == cell_len(values[: values.index(value)])


def test_a_narrow_terminal_gets_more_lines() -> None:
    lines = str(figure_table(FIGURES, 30)).splitlines()
    assert len(lines) == 6
    assert [word for line in lines[::2] for word in line.split("   ") if word.strip()]
    assert "".join(lines[1::2]).count("%") == 2


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "M", "Z")), max_size=12)


@given(st.dictionaries(texts, texts, max_size=9), st.integers(1, 130))
def test_no_line_is_wider_than_asked(figures: dict[str, str], width: int) -> None:
    assert all(cell_len(line) <= width for line in str(figure_table(figures, width)).split("\n"))


def test_the_bar_shows_its_note_until_there_is_a_table() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, record=True)
    with _Bars(console).bar("held-out text", 10, "tokens") as bar:
        bar.advance(10, note="loss 2.3")
    assert "loss 2.3" in console.export_text()


def test_plain_lines_hold_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with _Lines().bar("pretrain", 1e6, "tokens") as bar:
        bar.advance(1000, note="loss 2.3")
        assert isinstance(bar, TableBar)
        bar.table(FIGURES)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pretrain: 1,000 tokens of 1.00 Mtokens, ")
    assert line.endswith(figure_line(FIGURES))
    assert "grad norm 0.832, rate 5.12e-03" in line


def test_going_back_is_no_error() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, record=True)
    with _Bars(console).bar("pretrain", 1000, "tokens") as bar:
        bar.advance(600)
        bar.advance(-400)
    assert "200 tokens of 1,000 tokens" in console.export_text()
