"""An HTML page to its main text as Markdown: headings, lists, tables and code keep their marks."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from fledge.data.clean import is_hidden
from fledge.data.decode import decode, mend
from fledge.data.extract import extract_html, parse
from fledge.index.load.blob import Blob, Budget, Refused, too_large
from fledge.index.load.pen import Written, one_line, settle

_CUT_TAG = re.compile(r"<[A-Za-z!/][^<>]{0,2000}\Z")
_GAPS = re.compile(r"\n{3,}")
_UNSEEN = ("script", "style", "template", "head", "noscript", "iframe", "svg", "object")
_BLOCKS = (
    "p", "div", "br", "li", "tr", "table", "ul", "ol", "dl", "dt", "dd", "section", "article",
    "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "figure", "header", "footer", "hr",
)  # fmt: skip


def read_page(blob: Blob, budget: Budget) -> Written:
    """The main text of a page; all that a reader sees when no main text can be told."""
    data = budget.whole(blob)
    source = decode(data, blob.charset)
    if source is None:
        raise Refused("binary", repr(data[:24]))
    if end := cut_short(source):
        raise Refused("truncated", end)
    written = page_text(source)
    if len(written.text) > budget.config.limits.characters:
        raise too_large("a text of more characters", "characters", budget.config.limits.characters)
    return written


def page_text(source: str) -> Written:
    """What the HTML ``source`` says; refuses what is no HTML or too large to be a page."""
    source, _ = mend(source)
    found = extract_html(source, markdown=True)
    if found is None:
        raise Refused("broken", "not HTML, or more elements than a page has")
    title = one_line(found.title)
    text = _tidied(found.text) or _tidied(visible_text(parse(source)))
    if title and text and title.lower() not in text[: 2 * len(title) + 40].lower():
        text = f"# {title}\n\n{text}"
    return Written(text=text, kind="markdown", title=title, date=found.date)


def cut_short(source: str) -> str:
    """What shows that a page ends too early, or ""."""
    tail = source[-4000:].rstrip()
    if found := _CUT_TAG.search(tail):
        return f"it ends inside a tag: {found[0][:80]!r}"
    lowered = source.lower()
    begun = "<html" in lowered and "<body" in lowered
    if begun and "</html" not in lowered and "</body" not in lowered:
        return f"neither </body> nor </html>; it ends with {tail[-60:]!r}"
    return ""


def visible_text(tree: Any) -> str:
    """All text of a page that a reader sees, a line per block."""
    if tree is None:
        return ""
    for node in list(tree.iter()):
        if node.getparent() is not None and (
            not isinstance(node.tag, str) or node.tag in _UNSEEN or is_hidden(node)
        ):
            _drop(node)
    for node in tree.iter(*_BLOCKS):
        node.tail = "\n" + (node.tail or "")
        node.text = "\n" + (node.text or "")
    etree.strip_tags(tree, etree.Comment)
    lines = (" ".join(line.split()) for line in "".join(tree.itertext()).split("\n"))
    return "\n".join(line for line in lines if line)


def _drop(node: Any) -> None:
    parent, before = node.getparent(), node.getprevious()
    if node.tail:
        if before is not None:
            before.tail = (before.tail or "") + node.tail
        else:
            parent.text = (parent.text or "") + node.tail
    parent.remove(node)


def _tidied(text: str) -> str:
    lines = (line.rstrip(" \t") for line in settle(text).split("\n"))
    return _GAPS.sub("\n\n", "\n".join(lines)).strip()
