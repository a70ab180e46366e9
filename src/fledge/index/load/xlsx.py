"""Excel workbooks to rows: values as they were last computed, dates as dates; formulas are not run.

Each row is a place: "sheet Costs, row 14" (the row's number in the sheet).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from lxml import etree

from fledge.index.load.blob import Blob, Budget, Refused
from fledge.index.load.docx import text_below
from fledge.index.load.ooxml import Package, attribute, parse_xml
from fledge.index.load.pen import Pen, Written, settle
from fledge.index.load.tables import Row, write_rows

_DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
"""Numbers of built-in formats that show dates or times (ECMA-376 part 1, 18.8.30)."""
_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_CELL = re.compile(r"([A-Z]{1,3})(\d*)$")
_MAX_COLUMNS = 16_384


@dataclass
class _Book:
    """What cells refer to."""

    strings: list[str] = field(default_factory=list)
    dates: list[bool] = field(default_factory=list)
    """Of each cell format: whether it shows a date."""
    epoch: datetime = datetime(1899, 12, 30)


def read_xlsx(blob: Blob, budget: Budget) -> Written:
    """The rows of all sheets."""
    with Package(blob, budget) as package:
        main = package.main("xl/workbook.xml")
        root = package.tree(main)
        book = _book(package, main, root)
        parts = package.related(main)
        pen = Pen(budget.config.limits.characters)
        rows, names = 0, []
        for sheet in root.iter("{*}sheet"):
            id = next((v for k, v in sheet.attrib.items() if k.endswith("}id")), "")
            kind, part = parts.get(id, ("", ""))
            if kind != "worksheet":
                continue
            name = " ".join(settle(sheet.get("name") or "").split())
            names.append(name)
            cells = _rows(package.read(part), part, book, budget)
            rows += write_rows(pen, cells, f"sheet {name}, ")[0]
        stated = package.properties()
    return pen.written(
        "rows",
        title=stated.get("title", ""),
        date=stated.get("date", ""),
        metadata={"author": stated.get("author", ""), "sheets": names, "rows": rows},
    )


def _book(package: Package, main: str, root: Any) -> _Book:
    book = _Book()
    properties = root.find("{*}workbookPr")
    if properties is not None and properties.get("date1904") in ("1", "true"):
        book.epoch = datetime(1904, 1, 1)
    if part := package.first("sharedStrings", main):
        book.strings = [_string(item) for item in package.tree(part).iterfind("{*}si")]
    if part := package.first("styles", main):
        styles = package.tree(part)
        codes = {
            item.get("numFmtId"): item.get("formatCode") or "" for item in styles.iter("{*}numFmt")
        }
        formats = styles.find("{*}cellXfs")
        for item in formats if formats is not None else ():
            number = item.get("numFmtId") or "0"
            book.dates.append(_shows_date(number, codes.get(number)))
    return book


def _shows_date(number: str, code: str | None) -> bool:
    if code is None:
        return number.isdigit() and int(number) in _DATE_FORMATS
    code = _LITERAL.sub("", code).lower()
    return bool(re.search("[ymdhs]", code)) and "general" not in code


def _string(item: Any) -> str:
    """A shared or inline string without its phonetic hints."""
    for hint in item.findall("{*}rPh"):
        item.remove(hint)
    return text_below(item)


def _rows(data: bytes, part: str, book: _Book, budget: Budget) -> Iterator[Row]:
    """Rows of a sheet, read one by one."""
    events = etree.iterparse(
        BytesIO(data), events=("end",), tag="{*}row", resolve_entities=False, no_network=True,
        load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True,
    )  # fmt: skip
    number = 0
    if b"<!DOCTYPE" in data[:1000]:
        parse_xml(data[:1000], part)
    try:
        for _, row in events:
            stated = row.get("r") or ""
            number = int(stated) if stated.isdigit() and len(stated) < 9 else number + 1
            budget.take_member("rows")
            yield number, _cells(row, book)
            row.clear()
            while row.getprevious() is not None:
                del row.getparent()[0]
    except etree.XMLSyntaxError as error:
        raise Refused("broken", f"{part}: {error}") from None


def _cells(row: Any, book: _Book) -> list[str]:
    cells: list[str] = []
    for cell in row.iterfind("{*}c"):
        found = _CELL.match(cell.get("r") or "")
        column = _column(found[1]) if found else len(cells)
        if column >= _MAX_COLUMNS:
            raise Refused("broken", f"cell {cell.get('r')}: no sheet has so many columns")
        cells += [""] * (column + 1 - len(cells))
        cells[column] = _shown(cell, book)
    return cells


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _shown(cell: Any, book: _Book) -> str:
    """The value of a cell as a reader sees it, nearly: numbers keep all their digits."""
    kind = cell.get("t") or "n"
    if kind == "inlineStr":
        inline = cell.find("{*}is")
        return _string(inline) if inline is not None else ""
    text = settle(cell.findtext("{*}v") or "")
    if kind == "s":
        if not text.isdigit() or int(text) >= len(book.strings):
            raise Refused("broken", f"cell {cell.get('r')}: no shared string {text!r}")
        return book.strings[int(text)]
    if kind == "b":
        return "TRUE" if text == "1" else "FALSE"
    if kind != "n" or not text:
        return text
    style = attribute(cell, "s") or "0"
    shows_date = style.isdigit() and int(style) < len(book.dates) and book.dates[int(style)]
    return _number(text, shows_date, book.epoch)


def _number(text: str, shows_date: bool, epoch: datetime) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    if shows_date and 0 <= number < 2_958_466:  # until the year 9999
        moment = epoch + timedelta(days=number)
        moment = (moment + timedelta(milliseconds=500)).replace(microsecond=0)
        if number < 1:
            return f"{moment:%H:%M:%S}"
        midnight = moment.time() == datetime.min.time()
        return f"{moment:%Y-%m-%d}" if midnight else f"{moment:%Y-%m-%d %H:%M:%S}"
    if abs(number) < 1e15 and number == int(number):
        return str(int(number))
    return repr(number) if abs(number) < 1e15 else text
