"""Presentations to Markdown: a slide is a place, its title a heading; speaker's notes follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fledge.index.load.blob import Blob, Budget, too_large
from fledge.index.load.docx import text_below
from fledge.index.load.ooxml import Package, alternatives, attribute, local, markdown_table
from fledge.index.load.pen import Pen, Written

_TITLES = ("title", "ctrTitle")
_FRAME = ("dt", "ftr", "sldNum", "sldImg", "hdr")
"""Placeholders that repeat on every slide."""
_DEEPEST = 50


def read_pptx(blob: Blob, budget: Budget) -> Written:
    """The text of all slides in their order."""
    with Package(blob, budget) as package:
        main = package.main("ppt/presentation.xml")
        slides = _slides(package, main)
        if len(slides) > budget.config.limits.pages:
            raise too_large(f"{len(slides):,} slides are more", "pages", budget.config.limits.pages)
        pen = Pen(budget.config.limits.characters)
        for number, part in enumerate(slides, 1):
            start = pen.next_start()
            _write_slide(package.tree(part), pen)
            if notes := package.first("notesSlide", part):
                _write_notes(package.tree(notes), pen)
            pen.place(start, f"slide {number}")
        stated = package.properties()
    return pen.written(
        "markdown",
        title=stated.get("title", ""),
        date=stated.get("date", ""),
        metadata={"author": stated.get("author", ""), "slides": len(slides)},
    )


def _slides(package: Package, main: str) -> list[str]:
    """The parts of the slides, in their order."""
    parts = package.related(main)
    listed = package.tree(main).iter("{*}sldId")
    ids = [next((v for k, v in item.attrib.items() if k.endswith("}id")), "") for item in listed]
    return [parts[id][1] for id in ids if id in parts]


def _write_slide(root: Any, pen: Pen) -> None:
    for shape in _shapes(root.find("{*}cSld/{*}spTree"), 0):
        if local(shape) == "graphicFrame":
            for table in shape.iter("{*}tbl"):
                rows = [[text_below(cell) for cell in row.iterfind("{*}tc")]
                        for row in table.iterfind("{*}tr")]  # fmt: skip
                pen.block(markdown_table(rows))
            continue
        placeholder = _placeholder(shape)
        text = _text(shape)
        if placeholder in _TITLES and text:
            pen.block("## " + " ".join(text.split()))
        elif placeholder not in _FRAME:
            pen.block(text)


def _write_notes(root: Any, pen: Pen) -> None:
    shapes = _shapes(root.find("{*}cSld/{*}spTree"), 0)
    texts = (_text(shape) for shape in shapes if _placeholder(shape) not in _FRAME)
    text = "\n".join(text for text in texts if text)
    if text:
        pen.block(f"Notes: {text}")


def _shapes(tree: Any, depth: int) -> Iterator[Any]:
    """Shapes and tables, those in groups too."""
    if tree is None or depth > _DEEPEST:
        return
    for child in alternatives(tree):
        if local(child) == "grpSp":
            yield from _shapes(child, depth + 1)
        elif local(child) in ("sp", "graphicFrame", "cxnSp"):
            yield child


def _placeholder(shape: Any) -> str:
    """The kind of placeholder a shape is, "" for none."""
    found = next(shape.iter("{*}ph"), None)
    return "" if found is None else attribute(found, "type") or "body"


def _text(shape: Any) -> str:
    """A line per paragraph."""
    body = shape.find("{*}txBody")
    if body is None:
        return ""
    lines = (text_below(paragraph).strip() for paragraph in body.iterfind("{*}p"))
    return "\n".join(line for line in lines if line)
