"""Word documents to Markdown: headings, lists, tables and notes; what is deleted or hidden is not.

A .docx has no pages until a program lays it out, so there are no places.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from fledge.index.load.blob import Blob, Budget
from fledge.index.load.ooxml import (
    Package,
    alternatives,
    attribute,
    is_on,
    local,
    markdown_table,
    value,
)
from fledge.index.load.pen import Pen, Written, settle

_HEADING = re.compile(r"(?:heading|标题|標題)\s*([1-9])", re.IGNORECASE)
_SKIPPED = frozenset(("del", "moveFrom", "instrText", "delText", "pPr", "rPr", "fldData"))
_DEEPEST = 200
"""Nesting of elements below a paragraph or cell that is still read."""


@dataclass
class _Styles:
    """What paragraph styles mean."""

    levels: dict[str, int] = field(default_factory=dict)
    """Style -> level of heading, from 1."""
    hidden: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)


def read_docx(blob: Blob, budget: Budget) -> Written:
    """The text of a Word document."""
    with Package(blob, budget) as package:
        main = package.main("word/document.xml")
        styles = _styles(package, main)
        pen = Pen(budget.config.limits.characters)
        body = package.tree(main).find("{*}body")
        if body is not None:
            _write_blocks(body, pen, styles, 0)
        for kind in ("footnotes", "endnotes"):
            if part := package.first(kind, main):
                _write_notes(package.tree(part), pen)
        stated = package.properties()
    return pen.written(
        "markdown",
        title=stated.get("title", ""),
        date=stated.get("date", ""),
        metadata={"author": stated.get("author", "")},
    )


def _styles(package: Package, main: str) -> _Styles:
    styles = _Styles()
    part = package.first("styles", main)
    if not part:
        return styles
    based: dict[str, str] = {}
    for style in package.tree(part).iter("{*}style"):
        name = attribute(style, "styleId") or ""
        label = value(style, "name") or ""
        styles.names[name] = label.lower()
        outline = value(style.find("{*}pPr"), "outlineLvl")
        if outline is not None and outline.isdigit() and int(outline) < 9:
            styles.levels[name] = int(outline) + 1
        elif found := _HEADING.match(label):
            styles.levels[name] = int(found[1])
        elif label.lower() == "title":
            styles.levels[name] = 1
        elif parent := value(style, "basedOn"):
            based[name] = parent
        if is_on(style.find("{*}rPr"), "vanish"):
            styles.hidden.add(name)
    for name in based:
        parent, seen = based[name], {name}
        while parent in based and parent not in seen:
            seen.add(parent)
            parent = based[parent]
        if parent in styles.levels:
            styles.levels[name] = styles.levels[parent]
    return styles


def _write_blocks(container: Any, pen: Pen, styles: _Styles, depth: int) -> None:
    if depth > _DEEPEST:
        return
    for element in alternatives(container):
        name = local(element)
        if name == "p":
            _write_paragraph(element, pen, styles)
        elif name == "tbl":
            pen.block(markdown_table(_rows(element)))
        elif name in ("sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"):
            _write_blocks(element, pen, styles, depth + 1)


def _write_paragraph(paragraph: Any, pen: Pen, styles: _Styles) -> None:
    properties = paragraph.find("{*}pPr")
    style = value(properties, "pStyle") or ""
    if style in styles.hidden:
        return
    text = text_below(paragraph).strip()
    outline = value(properties, "outlineLvl")
    level = styles.levels.get(style, 0)
    if outline is not None and outline.isdigit() and int(outline) < 9:
        level = int(outline) + 1
    numbering = properties.find("{*}numPr") if properties is not None else None
    if level:
        pen.block("#" * min(level, 6) + " " + " ".join(text.split()) if text else "")
    elif numbering is not None or styles.names.get(style, "").startswith("list"):
        depth = value(numbering, "ilvl") or "0"
        indent = "  " * min(int(depth) if depth.isdigit() else 0, 8)
        lines = text.split("\n")
        item = f"{indent}- " + f"\n{indent}  ".join(lines)
        if text:
            pen.item(item)
    else:
        pen.block(text)


def _write_notes(root: Any, pen: Pen) -> None:
    for note in root:
        if attribute(note, "type") in ("separator", "continuationSeparator", "continuationNotice"):
            continue
        text = " ".join(" ".join(text_below(p) for p in note.iter("{*}p")).split())
        if text:
            pen.block(f"[^{attribute(note, 'id') or ''}]: {text}")


def _rows(table: Any) -> list[list[str]]:
    return [[text_below(cell) for cell in _children(row, "tc")] for row in _children(table, "tr")]


def _children(element: Any, name: str) -> list[Any]:
    """Children of this name, also inside content controls and insertions."""
    found = []
    stack = list(reversed(list(alternatives(element))))
    while stack:
        child = stack.pop()
        if local(child) == name:
            found.append(child)
        elif local(child) in ("sdt", "sdtContent", "customXml", "ins"):
            stack.extend(reversed(list(child)))
    return found


def text_below(element: Any) -> str:
    """The settled text below an element of WordprocessingML or DrawingML: what a reader sees."""
    parts: list[str] = []
    _collect(element, parts, 0)
    return settle("".join(parts))


def _collect(element: Any, parts: list[str], depth: int) -> None:
    if depth > _DEEPEST:
        return
    for child in alternatives(element):
        name = local(child)
        if name == "t":
            parts.append(child.text or "")
        elif name in ("tab", "ptab"):
            parts.append("\t")
        elif name in ("br", "cr"):
            parts.append("\n")
        elif name == "noBreakHyphen":
            parts.append("-")
        elif name in ("footnoteReference", "endnoteReference"):
            parts.append(f"[^{attribute(child, 'id') or ''}]")
        elif name == "r" and is_on(child.find("{*}rPr"), "vanish"):
            continue
        elif name not in _SKIPPED:
            _collect(child, parts, depth + 1)
            if name in ("p", "tc"):
                parts.append("\n")
