"""Named figures and a width in, a small table of two lines for each row of figures out."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = 3
"""Cells between columns."""


def figure_table(values: Mapping[str, str], width: int) -> Text:
    """Names above values, as many columns as ``width`` cells hold; the rest goes below.

    A wide character takes two cells.  What is wider than the terminal is cut.
    """
    table = Text(no_wrap=True, overflow="crop")
    for row in _rows(values, width):
        for style, part in (("dim", 0), ("bold", 1)):
            cells = [(pair[part], min(max(map(cell_len, pair)), width)) for pair in row]
            line = (" " * GAP).join(set_cell_size(text, cells_wide) for text, cells_wide in cells)
            table.append(line.rstrip() + "\n", style=style)
    table.rstrip()
    return table


def figure_line(values: Mapping[str, str]) -> str:
    """The figures in a line, for places without a terminal."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _rows(values: Mapping[str, str], width: int) -> list[list[tuple[str, str]]]:
    """The figures in rows that fit."""
    rows: list[list[tuple[str, str]]] = []
    used = 0
    for pair in values.items():
        wide = max(map(cell_len, pair))
        if not rows or used + GAP + wide > width:
            rows.append([pair])
            used = wide
        else:
            rows[-1].append(pair)
            used += GAP + wide
    return rows
