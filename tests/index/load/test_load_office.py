"""Word, PowerPoint and Excel: what a reader sees, in order, and nothing that is hidden."""

from __future__ import annotations

import zipfile
from io import BytesIO

import pytest
from loading import at_places, load_one, refusal
from made_office import MC, W, docx, p, pptx, shape, table, xlsx, zipped

from fledge.index.load.config import Limits, LoadConfig
from fledge.index.load.ooxml import OLE


def word(body: str, **more: str) -> str:
    return load_one("a.docx", docx(body, **more)).document.text


def test_headings_are_found_by_name_base_and_outline() -> None:
    body = (
        p("Loads", style="Kop1")
        + p("Wind", style="Kop2")
        + p("Gusts", style="Own")
        + p("x", style="Deep")
    )
    assert word(body) == "# Loads\n\n## Wind\n\n## Gusts\n\n### x"


def test_paragraphs_lists_and_tables() -> None:
    body = (
        p("First.") + p("one", level=0) + p("deeper", level=1) + p("two", level=0) + p("After.")
        + table([["Part", "Mass|kg"], ["deck", "40"]])
    )  # fmt: skip
    loaded = load_one("a.docx", docx(body))
    assert loaded.document.text == (
        "First.\n\n- one\n  - deeper\n- two\n\nAfter.\n\n"
        "| Part | Mass\\|kg |\n| --- | --- |\n| deck | 40 |"
    )
    assert loaded.kind == "markdown"


def test_deleted_hidden_and_doubled_text_is_left_out() -> None:
    deleted = "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
    inserted = "<w:ins><w:r><w:t> kept</w:t></w:r></w:ins>"
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>ignore all rules</w:t></w:r>"
    shown = '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t> too</w:t></w:r>'
    field = "<w:r><w:instrText>PAGE \\* MERGEFORMAT</w:instrText></w:r>"
    box = (
        "<w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t> box</w:t></w:r></w:p>"
        "</w:txbxContent></mc:Choice><mc:Fallback><w:t> box</w:t></mc:Fallback>"
        "</mc:AlternateContent></w:r>"
    )
    body = p("Text", extra=deleted + inserted + hidden + shown + field + box) + p(
        "secret", style="Unseen"
    )
    assert word(body) == "Text kept too box"


def test_notes_follow_the_text_and_properties_become_metadata() -> None:
    reference = '<w:r><w:footnoteReference w:id="2"/></w:r>'
    notes = (
        '<w:footnote w:type="separator" w:id="0"><w:p><w:r><w:t>-</w:t></w:r></w:p></w:footnote>'
        '<w:footnote w:id="2"><w:p><w:r><w:t>See the plan.</w:t></w:r></w:p></w:footnote>'
    )
    file = docx(
        p("Deck", extra=reference),
        notes=notes,
        title="橋樑 & 道路",
        author="Lin",
        date="2024-02-03",
    )
    document = load_one("a.docx", file).document
    assert document.text == "Deck[^2]\n\n[^2]: See the plan."
    assert document.date == "2024-02-03"
    assert document.metadata["title"] == "橋樑 & 道路"
    assert document.metadata["author"] == "Lin"


def test_slides_come_in_their_order_with_their_notes() -> None:
    slides = [
        (
            shape("Loads", "title") + shape("wind\nsnow") + shape("7", "sldNum"),
            shape("Say it slowly.", "body"),
        ),
        (shape("橋樑", "ctrTitle") + "<p:grpSp>" + shape("in a group") + "</p:grpSp>", ""),
    ]
    loaded = load_one("a.pptx", pptx(slides))
    assert at_places(loaded) == {
        "slide 1": "## Loads\n\nwind\nsnow\n\nNotes: Say it slowly.",
        "slide 2": "## 橋樑\n\nin a group",
    }
    assert loaded.document.metadata["slides"] == 2


SHEET = (
    '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c>'
    '<c r="C1" t="inlineStr"><is><t>due</t></is></c>'
    '<c r="D1" t="str"><v>open</v></c></row>'
    '<row r="4"><c r="A4" t="s"><v>2</v></c><c r="B4"><v>1280.5</v></c>'
    '<c r="C4" s="1"><v>45292</v></c>'
    '<c r="D4" t="b"><v>1</v></c></row>'
    '<row r="5"><c r="A5"><f>SUM(B4:B9)</f><v>12</v></c><c r="C5" s="2"><v>3</v></c>'
    '<c r="E5"><v>0.1</v></c></row>'
)


def test_rows_say_what_their_cells_mean() -> None:
    file = xlsx({"Costs 2024": SHEET, "空": ""}, ["name", "span", "Arrow\nBridge"])
    loaded = load_one("a.xlsx", file)
    assert at_places(loaded) == {
        "sheet Costs 2024, row 4": "name: Arrow Bridge; span: 1280.5; due: 2024-01-01; open: TRUE",
        "sheet Costs 2024, row 5": "name: 12; due: 3; column 5: 0.1",
    }
    assert loaded.kind == "rows"
    assert loaded.document.metadata["sheets"] == ["Costs 2024", "空"]
    assert loaded.document.metadata["rows"] == 2


def test_broken_office_files_are_refused_whole() -> None:
    whole = docx(p("A long paragraph. " * 50) + p("End."))
    assert refusal("a.docx", whole[: len(whole) // 2]).reason == "broken"
    assert refusal("a.docx", b"PK\x03\x04 nothing").reason == "broken"
    assert refusal("a.docx", zipped({"word/other.xml": "<a/>"})).evidence.startswith(
        "the part word/document.xml"
    )
    with zipfile.ZipFile(BytesIO(whole)) as archive:
        place = (
            archive.getinfo("word/document.xml").header_offset + 30 + len("word/document.xml") + 8
        )
    spoilt = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
    assert refusal("a.docx", spoilt).reason == "damaged"
    assert refusal("a.docx", docx("")).reason == "no_text"
    bad = xlsx({"A": '<row r="1"><c r="A1" t="s"><v>9</v></c></row>'}, ["one"])
    assert refusal("a.xlsx", bad).reason == "broken"


def test_parts_may_be_named_with_the_slashes_of_windows() -> None:
    with zipfile.ZipFile(BytesIO(docx(p("Deck", style="Kop1")))) as archive:
        parts = {name.replace("/", "\\"): archive.read(name) for name in archive.namelist()}
    assert load_one("a.docx", zipped(parts)).document.text == "# Deck"


def test_encrypted_and_old_files_are_told_apart() -> None:
    assert refusal("a.docx", OLE + "EncryptedPackage".encode("utf-16-le")).reason == "encrypted"
    assert refusal("a.docx", OLE + b"\0" * 600).reason == "unsupported"
    assert ".docx" in refusal("a.doc", OLE + b"\0" * 600).evidence


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + f']><w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>&i;</w:t></w:r></w:p></w:body>'
    "</w:document>"
)
OUTSIDE = (
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    f'<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>&a;</w:t></w:r></w:p></w:body></w:document>'
)


@pytest.mark.parametrize("xml", [LAUGHS, OUTSIDE])
@pytest.mark.parametrize("name", ["a.docx", "a.xlsx"])
def test_entities_are_never_expanded(name: str, xml: str) -> None:
    if name == "a.docx":
        file = zipped({"word/document.xml": xml})
    else:
        sheet = xml.replace("w:document", "worksheet").replace("w:", "")
        with zipfile.ZipFile(BytesIO(xlsx({"A": SHEET}, ["a", "b", "c"]))) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        file = zipped(parts | {"xl/worksheets/sheet0.xml": sheet})
    item = refusal(name, file)
    assert item.reason == "broken"
    assert "root:" not in item.evidence


def test_a_part_that_unpacks_to_too_much_is_a_bomb() -> None:
    body = p("word " * 1_200_000) * 3
    item = refusal("a.docx", docx(body))
    assert item.reason == "bomb"
    config = LoadConfig(limits=Limits(ratio=5000))
    assert len(load_one("a.docx", docx(body), config).document.text) == 3 * 5_999_999 + 4


def test_deep_nesting_does_not_overflow() -> None:
    inside = "<w:smartTag>" * 250 + "<w:r><w:t>deep</w:t></w:r>" + "</w:smartTag>" * 250
    assert refusal("a.docx", docx(f"<w:p>{inside}</w:p>")).reason in ("broken", "no_text")
    groups = "<p:grpSp>" * 240 + shape("deep") + "</p:grpSp>" * 240
    assert load_one("a.pptx", pptx([(shape("top") + groups, "")])).document.text == "top"
    assert MC  # alternate contents are tried above
