"""Rows of cells to lines ``column: value; column: value``, each a place; CSV and TSV files.

Every line says what its values mean, so that a row found alone can be read alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from fledge.index.load.blob import Blob, Budget, Refused
from fledge.index.load.pen import Pen, Written
from fledge.index.load.plain import text_of

DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 20
_MAX_COLUMNS = 20_000

Row = tuple[int, list[str]]
"""The number of a row in its file or sheet, from 1, and its cells."""


def write_rows(pen: Pen, rows: Iterable[Row], where: str = "") -> tuple[int, list[str]]:
    """Write rows as lines; returns (rows written, names of the columns).

    The first row gives the names when it reads like names.  ``where`` begins the labels of places:
    "sheet Costs, row 3".
    """
    names: list[str] | None = None
    count = 0
    for number, cells in rows:
        cells = [" ".join(cell.split()) for cell in cells]
        if not any(cells):
            continue
        if names is None:
            names = column_names(cells) or []
            if names:
                continue
        named = zip(_named(names, len(cells)), cells, strict=True)
        line = "; ".join(f"{name}: {cell}" for name, cell in named if cell)
        start, _ = pen.block(line, gap="\n")
        pen.place(start, f"{where}row {number}")
        count += 1
    if not count and names:  # names and nothing else
        start, _ = pen.block("; ".join(name for name in names if name), gap="\n")
        pen.place(start, f"{where}row 1")
    return count, [name for name in names or [] if name]


def _named(names: Sequence[str], width: int) -> Iterator[str]:
    for column in range(width):
        name = names[column] if column < len(names) else ""
        yield name or f"column {column + 1}"


def column_names(cells: Sequence[str]) -> list[str] | None:
    """The cells when they read like names of columns: different words, not numbers; else None."""
    filled = [cell for cell in cells if cell]
    if len(set(filled)) < len(filled) or any(len(cell) > 200 for cell in filled):
        return None
    return list(cells) if not any(_is_number(cell) for cell in filled) else None


def _is_number(cell: str) -> bool:
    digits = sum(character.isdigit() for character in cell)
    return digits > 0 and not any(character.isalpha() for character in cell)


def read_csv(blob: Blob, budget: Budget) -> Written:
    """A CSV or TSV file; its delimiter is found out.  Formulas are text like any other."""
    text = text_of(blob, budget)
    name = PurePosixPath(blob.name.lower())
    delimiter = "\t" if name.suffix in (".tsv", ".tab") else delimiter_of(text)
    pen = Pen(budget.config.limits.characters)
    count, names = write_rows(pen, _rows(text, delimiter, budget))
    return pen.written("rows", metadata={"rows": count, "columns": names[:200]})


def delimiter_of(text: str) -> str:
    """The delimiter that cuts the first rows into the same number of cells, more than one."""
    sample = text[:100_000]
    best, score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            reader = csv.reader(io.StringIO(sample), delimiter=delimiter)
            widths = [len(row) for row, _ in zip(reader, range(_SAMPLE_ROWS), strict=False) if row]
        except csv.Error:
            continue
        if not widths or max(widths) < 2:
            continue
        usual = max(set(widths), key=lambda width: (widths.count(width), width))
        if usual > 1 and (widths.count(usual) / len(widths), usual) > score:
            best, score = delimiter, (widths.count(usual) / len(widths), usual)
    return best


def _rows(text: str, delimiter: str, budget: Budget) -> Iterator[Row]:
    limits = budget.config.limits
    csv.field_size_limit(max(csv.field_size_limit(), min(limits.characters, 2**31 - 1)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for number, row in enumerate(reader, 1):
            if number > 1:
                budget.take_member("rows")
            if len(row) > _MAX_COLUMNS:
                raise Refused("broken", f"row {number} has {len(row):,} columns")
            yield number, row
    except csv.Error as error:
        raise Refused("broken", f"line {reader.line_num}: {error}") from None
