"""An HTML page to its main text, title and date, and what the quality and guard rules ask of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

from lxml import etree, html

from fledge.data.clean import clean, is_hidden

MAX_NODES = 200_000
"""Pages with more elements than this are not read: they are machine output or attacks."""

_PROLOGUE = re.compile(r"^\s*(?:<\?xml[^>]*\?>\s*)?")
_SPOKEN = ("alt", "title", "aria-label", "data-prompt", "data-ai")
"""Attributes that hold text for machines and tooltips."""

_FRAME = frozenset({"nav", "header", "footer", "aside", "script", "style", "noscript", "form"})
_NO_TEXT = frozenset({"script", "style", "template", "head", "title", "noscript"})
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATE_META = (
    "article:published_time",
    "datePublished",
    "date",
    "dc.date",
    "DC.date.issued",
    "pubdate",
    "og:published_time",
)


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What an HTML page says."""

    text: str
    """The main text, without the title; empty when there is none."""

    title: str = ""
    date: str = ""
    """ISO 8601 date, or empty."""

    hidden: str = ""
    """Text that a reader does not see: comments, invisible elements."""

    link_share: float = 0.0
    """Share of the text outside navigation that is link text."""

    links: int = 0
    """Links outside navigation."""

    code_share: float = 0.0
    """Share of the text that stands in ``<pre>`` or ``<code>``."""


def extract_html(
    page: str, favour: str = "balanced", *, markdown: bool = False
) -> Extracted | None:
    """The main text of an HTML page; None when it cannot be parsed.

    ``markdown`` keeps headings, code and lists as Markdown marks them.
    """
    from trafilatura import bare_extraction

    tree = parse(page)
    if tree is None:
        return None
    title, date = find_title(tree), find_date(tree)
    hidden = hidden_text(tree)
    link_share, links, code_share = _shares(tree)
    clean(tree)
    found = bare_extraction(
        tree,
        fast=True,
        include_comments=False,
        include_tables=True,
        include_formatting=markdown,
        favor_precision=favour == "precision",
        favor_recall=favour == "recall",
        with_metadata=False,
    )
    return Extracted(
        text=str(getattr(found, "text", "") or ""),
        title=title,
        date=date,
        hidden=hidden,
        link_share=link_share,
        links=links,
        code_share=code_share,
    )


def parse(page: str) -> Any:
    """The element tree, or None for what is no HTML."""
    source = _PROLOGUE.sub("", page, count=1)
    if not source.strip():
        return None
    try:
        tree = html.document_fromstring(source, parser=html.HTMLParser(huge_tree=False))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None
    if sum(1 for _, _ in zip(tree.iter(), range(MAX_NODES + 1), strict=False)) > MAX_NODES:
        return None
    return tree


def find_title(tree: Any) -> str:
    """The only ``<h1>``, else ``og:title``, else ``<title>`` without the site's name."""
    headings = [_text(element) for element in tree.iter("h1")]
    headings = [heading for heading in headings if heading]
    title = next((_text(element) for element in tree.iter("title")), "")
    for heading in headings:
        if heading and (len(headings) == 1 or heading in title):
            return heading[:300]
    for meta in tree.iter("meta"):
        if (meta.get("property") or "").lower() == "og:title" and meta.get("content"):
            return " ".join(meta.get("content").split())[:300]
    return re.split(r"\s[|–—·»-]\s|_", title)[0].strip()[:300]


def find_date(tree: Any) -> str:
    """The date of publication that the page states, as ISO 8601 (day), or empty."""
    for meta in tree.iter("meta"):
        name = meta.get("property") or meta.get("name") or meta.get("itemprop") or ""
        if name in _DATE_META and (match := _DATE.search(meta.get("content") or "")):
            return match[0]
    for element in tree.iter("time"):
        if match := _DATE.search(element.get("datetime") or ""):
            return match[0]
    for script in tree.iter("script"):
        if "ld+json" in (script.get("type") or "") and (
            found := re.search(r'"datePublished"\s*:\s*"(\d{4}-\d{2}-\d{2})', script.text or "")
        ):
            return found[1]
    return ""


def hidden_text(tree: Any) -> str:
    """Comments, elements that styles or attributes hide, and texts only machines read."""
    parts: list[str] = []
    outside = [*tree.itersiblings(preceding=True), *tree.itersiblings()]
    for node in (*outside, *tree.iter()):
        if node.tag is etree.Comment:
            parts.append(unescape(node.text or ""))
        elif isinstance(node.tag, str) and node.tag not in _NO_TEXT:
            if is_hidden(node):
                parts.append(_text(node))
            parts.extend(node.get(name) or "" for name in _SPOKEN)
            if node.tag == "meta" and node.get("content"):
                parts.append(node.get("content"))
    return "\n".join(part.strip() for part in parts if part and part.strip())


def _text(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def _shares(tree: Any) -> tuple[float, int, float]:
    """(link share, number of links, code share) of the text outside navigation."""
    counts = {"all": 0, "link": 0, "code": 0, "links": 0}
    body = tree.find("body")
    if body is not None:
        _count(body, False, False, counts)
    total = max(counts["all"], 1)
    return counts["link"] / total, counts["links"], counts["code"] / total


def _count(root: Any, in_link: bool, in_code: bool, counts: dict[str, int]) -> None:
    """Add up characters, and those in links and in code, below ``root``; no recursion."""
    stack = [(root, in_link, in_code)]
    while stack:
        node, linked, coded = stack.pop()
        if not isinstance(node.tag, str) or node.tag in _FRAME:
            continue
        linked, coded = linked or node.tag == "a", coded or node.tag in ("pre", "code")
        counts["links"] += node.tag == "a"
        for text, in_a in ((node.text, linked), *((child.tail, linked) for child in node)):
            size = len(text.strip()) if text else 0
            counts["all"] += size
            counts["link"] += size * in_a
            counts["code"] += size * coded
        stack.extend((child, linked, coded) for child in node)
