"""Office files written by hand for the tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from html import escape

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"

CORE = (
    '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/'
    'core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:dcterms="http://purl.org/dc/terms/"><dc:title>{title}</dc:title>'
    "<dc:creator>{author}</dc:creator><dcterms:modified>{date}T08:00:00Z</dcterms:modified>"
    "</cp:coreProperties>"
)


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def relations(targets: Mapping[str, tuple[str, str]]) -> str:
    """A .rels part: id -> (kind, target)."""
    rows = "".join(
        f'<Relationship Id="{id}" Type="{R}/{kind}" Target="{target}"/>'
        for id, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_RELATIONS}">{rows}</Relationships>'


def p(text: str, *, style: str = "", level: int | None = None, extra: str = "") -> str:
    """A paragraph of a Word document; ``level`` makes it an item of a list."""
    properties = f'<w:pStyle w:val="{style}"/>' if style else ""
    if level is not None:
        properties += f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="1"/></w:numPr>'
    run = f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>' if text else ""
    return f"<w:p><w:pPr>{properties}</w:pPr>{run}{extra}</w:p>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of a Word document."""
    cells = ("".join(f"<w:tc>{p(cell)}</w:tc>" for cell in row) for row in rows)
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"


STYLES = (
    f'<w:styles xmlns:w="{W}">'
    '<w:style w:type="paragraph" w:styleId="Kop1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Kop2"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Own"/>'
    '<w:basedOn w:val="Kop2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Deep"><w:name w:val="Deep"/>'
    '<w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    '<w:style w:type="paragraph" w:styleId="Unseen"><w:name w:val="Unseen"/>'
    "<w:rPr><w:vanish/></w:rPr></w:style></w:styles>"
)


def docx(body: str, *, notes: str = "", title: str = "", author: str = "", date: str = "") -> bytes:
    """A Word document with this body."""
    parts: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relations(
            {
                "a": ("officeDocument", "word/document.xml"),
                "b": ("metadata/core-properties", "docProps/core.xml"),
            }
        ),
        "docProps/core.xml": CORE.format(title=escape(title), author=author, date=date),
        "word/document.xml": f'<w:document xmlns:w="{W}" xmlns:mc="{MC}"><w:body>{body}'
        "</w:body></w:document>",
        "word/styles.xml": STYLES,
        "word/_rels/document.xml.rels": relations(
            {"s": ("styles", "styles.xml"), "f": ("footnotes", "footnotes.xml")}
        ),
    }
    if notes:
        parts["word/footnotes.xml"] = f'<w:footnotes xmlns:w="{W}">{notes}</w:footnotes>'
    return zipped(parts)


def shape(text: str, kind: str = "") -> str:
    """A shape of a slide; ``kind`` of placeholder."""
    place = f'<p:nvPr><p:ph type="{kind}"/></p:nvPr>' if kind else "<p:nvPr/>"
    lines = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in text.split("\n"))
    return f"<p:sp><p:nvSpPr>{place}</p:nvSpPr><p:txBody>{lines}</p:txBody></p:sp>"


def pptx(slides: Sequence[tuple[str, str]]) -> bytes:
    """A presentation of (shapes, shapes of the notes); the parts are numbered from the last."""
    count = len(slides)
    targets = {f"r{n}": ("slide", f"slides/slide{count - n}.xml") for n in range(count)}
    ids = "".join(f'<p:sldId id="{256 + n}" r:id="r{n}"/>' for n in range(count))
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations({"a": ("officeDocument", "ppt/presentation.xml")}),
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{P}" xmlns:r="{R}"><p:sldIdLst>{ids}'
        "</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(targets),
    }
    for number, (shapes, notes) in enumerate(slides):
        name = f"slide{count - number}.xml"
        parts[f"ppt/slides/{name}"] = _tree("sld", shapes)
        if notes:
            parts[f"ppt/notesSlides/n{name}"] = _tree("notes", notes)
            parts[f"ppt/slides/_rels/{name}.rels"] = relations(
                {"n": ("notesSlide", f"../notesSlides/n{name}")}
            )
    return zipped(parts)


def _tree(kind: str, shapes: str) -> str:
    return (
        f'<p:{kind} xmlns:p="{P}" xmlns:a="{A}"><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld>'
        f"</p:{kind}>"
    )


def xlsx(sheets: Mapping[str, str], strings: Sequence[str] = ()) -> bytes:
    """A workbook: sheet -> its rows as XML.  Cell format 1 is a date, 2 is "0.0"."""
    names = list(sheets)
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n + 1}" r:id="r{n}"/>'
        for n, name in enumerate(names)
    )
    targets = {f"r{n}": ("worksheet", f"worksheets/sheet{n}.xml") for n in range(len(names))}
    targets |= {"s": ("sharedStrings", "sharedStrings.xml"), "t": ("styles", "styles.xml")}
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations({"a": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": f'<workbook xmlns="{S}" xmlns:r="{R}"><sheets>{listed}</sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": relations(targets),
        "xl/sharedStrings.xml": f'<sst xmlns="{S}">'
        + "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
        + "</sst>",
        "xl/styles.xml": f'<styleSheet xmlns="{S}"><numFmts><numFmt numFmtId="170" '
        'formatCode="0.0&quot; days&quot;"/></numFmts><cellXfs><xf numFmtId="0"/>'
        '<xf numFmtId="14"/><xf numFmtId="170"/></cellXfs></styleSheet>',
    }
    for number, name in enumerate(names):
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{S}"><sheetData>{sheets[name]}</sheetData></worksheet>'
        )
    return zipped(parts)
