"""PDF to text by PDFium: pages as places, words with the boxes they are drawn in.

The characters come in the order of the page's content, which is the order of reading wherever
the program that wrote it had one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from fledge.data.dates import iso_date
from fledge.index.load.blob import Blob, Budget, Refused, too_large
from fledge.index.load.pdf_damage import find_damage
from fledge.index.load.pdf_lines import Char, Rectangle, set_page
from fledge.index.load.pen import Pen, Written
from fledge.index.loaded import Box

_BLANKS = " \r\n\t"
_HYPHENS = (0x2, 0x2D, 0xAD, 0x2010, 0xFFFE)
PASSWORD_ERROR = 4
"""FPDF_ERR_PASSWORD of PDFium's fpdfview.h."""


def read_pdf(blob: Blob, budget: Budget) -> Written:
    """The text of all pages; refuses a file that is encrypted, damaged or without text."""
    import pypdfium2

    data = budget.whole(blob)
    damage, lost = (None, set()) if budget.config.pdf_repair else find_damage(data, budget)
    if damage:
        raise Refused(*damage)
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == PASSWORD_ERROR:
            raise Refused("encrypted", "it asks for a password") from None
        raise Refused("broken", str(error)) from None
    try:
        written = _read(document, budget)
    except pypdfium2.PdfiumError as error:
        raise Refused("broken", str(error)) from None
    finally:
        document.close()
    if lost and written.metadata["pages_without_text"]:
        raise Refused("damaged", f"no page refers to the text of object {min(lost)}")
    return written


def _read(document: Any, budget: Budget) -> Written:
    limits = budget.config.limits
    pages = len(document)
    if pages > limits.pages:
        raise too_large(f"{pages:,} pages are more", "pages", limits.pages)
    pen = Pen(limits.characters)
    boxes = budget.config.boxes
    numbers = range(1, pages + 1)
    empty = [number for number in numbers if not _write_page(document, number, pen, boxes=boxes)]
    information = document.get_metadata_dict(skip_empty=True)
    metadata = {
        "pages": pages,
        "author": information.get("Author", ""),
        "pages_without_text": empty,
        "seen": f"{pages} pages without text: scanned?" if len(empty) == pages else "",
    }
    date = information.get("ModDate") or information.get("CreationDate") or ""
    return pen.written(
        "plain",
        title=information.get("Title", ""),
        date=iso_date(date.removeprefix("D:")[:8]),
        metadata=metadata,
    )


def _write_page(document: Any, number: int, pen: Pen, *, boxes: bool) -> bool:
    """Write page ``number`` (from 1); False when it has no text."""
    page = document[number - 1]
    try:
        text_page = page.get_textpage()
        try:
            text, words = set_page(list(_characters(text_page.raw, _upright(page))))
        finally:
            text_page.close()
    finally:
        page.close()
    start, end = pen.block(text)
    if start == end:
        return False
    pen.place(start, f"page {number}")
    if boxes:
        pen.boxes += [
            Box(
                start=start + word.start,
                end=start + word.end,
                page=number,
                left=word.box[0],
                bottom=word.box[1],
                right=word.box[2],
                top=word.box[3],
            )
            for word in words
        ]
    return True


def _characters(raw: Any, upright: _Upright) -> Iterator[Char]:
    """The characters of a page with their boxes; blanks and breaks, which words never hold, have
    none."""
    import pypdfium2.raw as pdfium

    code_at, box_at = pdfium.FPDFText_GetUnicode, pdfium.FPDFText_GetLooseCharBox
    rectangle = pdfium.FS_RECTF()
    reference = ctypes.byref(rectangle)
    for index in range(pdfium.FPDFText_CountChars(raw)):
        code = code_at(raw, index)
        text = chr(code) if 0 < code < 0x110000 else ""
        if not text or text in _BLANKS or not box_at(raw, index, reference):
            yield Char(text, None)
            continue
        drawn = (rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)
        hyphen = code in _HYPHENS and pdfium.FPDFText_IsHyphen(raw, index) == 1
        yield Char(text, upright.turn(drawn), hyphen)


class _Upright:
    """Turns user space into points from the lower left of the page as it is shown."""

    def __init__(self, shown: Rectangle, angle: int) -> None:
        left, bottom, right, top = shown
        self._left, self._bottom = left, bottom
        self._width, self._height = right - left, top - bottom
        self._angle = angle
        self._plain = angle == 0 and left == bottom == 0

    def turn(self, box: Rectangle) -> Rectangle:
        """A box in user space, as it stands on the page."""
        if self._plain:
            return box
        left, bottom = box[0] - self._left, box[1] - self._bottom
        right, top = box[2] - self._left, box[3] - self._bottom
        width, height = self._width, self._height
        if self._angle == 90:
            return bottom, width - right, top, width - left
        if self._angle == 180:
            return width - right, height - top, width - left, height - bottom
        if self._angle == 270:
            return height - top, left, height - bottom, right
        return left, bottom, right, top


def _upright(page: Any) -> _Upright:
    return _Upright(page.get_cropbox(), page.get_rotation())
