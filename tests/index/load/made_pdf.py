"""PDFs written by hand for the tests: lines of text at places that the test knows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

Line = tuple[float, float, str]
"""Left and baseline in points, text."""

PAGE = (595, 842)


def pdf(
    pages: Sequence[Sequence[Line]],
    *,
    size: float = 12,
    packed: bool = False,
    rotate: int = 0,
    corner: tuple[float, float] = (0, 0),
    info: str = "",
) -> bytes:
    """A PDF with a page per sequence of lines.  ASCII is set in Courier (0.6 em a character), all
    other lines in a font as wide as high, whose only map is to Unicode."""
    left, bottom = corner
    box = f"[{left} {bottom} {left + PAGE[0]} {bottom + PAGE[1]}]"
    kids = " ".join(f"{10 + 2 * number} 0 R" for number in range(len(pages)))
    objects: dict[int, bytes] = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
        4: b"<< /Type /Font /Subtype /Type0 /BaseFont /Wide /Encoding /Identity-H "
        b"/DescendantFonts [5 0 R] /ToUnicode 6 0 R >>",
        5: b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Wide /DW 1000 /CIDSystemInfo "
        b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor 7 0 R >>",
        6: _stream(_UNICODE_MAP, packed),
        7: b"<< /Type /FontDescriptor /FontName /Wide /Flags 4 /FontBBox [0 -200 1000 900] "
        b"/ItalicAngle 0 /Ascent 900 /Descent -200 /CapHeight 700 /StemV 80 >>",
        8: f"<< {info} >>".encode("latin-1"),
    }
    for number, lines in enumerate(pages):
        objects[10 + 2 * number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Rotate {rotate} /Contents "
            f"{11 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>"
        ).encode()
        objects[11 + 2 * number] = _stream(_content(lines, size), packed)
    return _file(objects)


def _content(lines: Sequence[Line], size: float) -> bytes:
    parts = []
    for left, baseline, text in lines:
        if text.isascii():
            font, shown = (
                "F1",
                "(" + text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") + ")",
            )
        else:
            font, shown = "F2", "<" + text.encode("utf-16-be").hex() + ">"
        parts.append(f"BT /{font} {size:g} Tf {left:g} {baseline:g} Td {shown} Tj ET\n")
    return "".join(parts).encode("ascii")


def _stream(data: bytes, packed: bool) -> bytes:
    if packed:
        data = zlib.compress(data)
    kind = b" /Filter /FlateDecode" if packed else b""
    return b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(data), kind, data)


def _file(objects: dict[int, bytes]) -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places: dict[int, int] = {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    size = max(objects) + 1
    out += b"xref\n0 %d\n" % size
    for number in range(size):
        if number in places:
            out += b"%010d 00000 n \n" % places[number]
        else:
            out += b"0000000000 65535 f \n"
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 8 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        start,
    )
    return bytes(out)


_UNICODE_MAP = b"""/CIDInit /ProcSet findresource begin 12 dict begin begincmap
/CMapName /Same def /CMapType 2 def
1 begincodespacerange <0000> <FFFF> endcodespacerange
1 beginbfrange <0000> <FFFF> <0000> endbfrange
endcmap end end
"""


def paragraph(words: str, *, left: float = 72, top: float = 760, columns: int = 60) -> list[Line]:
    """Words set in lines of at most ``columns`` characters, 14 points apart."""
    lines, line = [], ""
    for word in words.split():
        if line and len(line) + 1 + len(word) > columns:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append(line)
    return [(left, top - 14 * number, line) for number, line in enumerate(lines)]
