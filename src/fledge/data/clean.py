"""Takes the frame off an HTML page: navigation, advertisements, link lists, what nobody sees.

The rules are those of the trade (link density: Kohlschütter et al., "Boilerplate detection using
shallow text features", 2010; names of classes): they only remove what they can name, and never
most of a page.  The main-text extractor then decides about the rest.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

MAX_SHARE = 0.3
"""A rule by class name never removes more than this share of a page's text."""

MAX_RUN = 160
"""Nor an element with an unbroken run of text outside links of more characters than this."""

MIN_LINK_SHARE = 0.6
"""Share of link text from which a block is a link list."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FRAME = _words(
    "nav aside script style noscript template form button select option iframe svg canvas "
    "object embed dialog menu map"
)
_BLOCKS = _words("div ul ol dl table tr td p section center span font li small")
_INLINE = _words(
    "b i em strong u s span font sup sub small big mark abbr acronym cite dfn tt kbd samp var "
    "ins del q bdi bdo time data wbr strike"
)
_ROLES = _words("navigation banner contentinfo complementary search dialog alert form")
_NAMES = re.compile(
    r"(?:^|[\s_-])(?:nav(?:bar|igation)?|menu|breadcrumbs?|crumbs|footer|foot|sidebar|side-?bar|widgets?"
    r"|masthead|logo|cookies?|consent|gdpr|share(?:d|daddy)?|sharing|social|follow|subscribe"
    r"|newsletter|sign-?up|log-?in|advert\w*|ads?|adbox|adslot|adsbygoogle|sponsor(?:ed)?|promo\w*"
    r"|banner|popup|modal|overlay|related|recommend\w*|popular|trending|teasers?|read-?more"
    r"|more-(?:stories|posts|articles)|comments?|disqus|replies|respond|reviews?|ratings?|feedback"
    r"|byline|author-?(?:box|bio|info)|entry-meta|post-meta|metadata|publication-meta|posted-on"
    r"|tags?|tag-?cloud|categories|catlinks|cat-links|toc|contents-list|table-of-contents"
    r"|editsection|edit-?link|noprint|no-print|skip-?link|pagination|pager|page-numbers"
    r"|user-?(?:panel|info|box)|post-(?:tools|footer|actions)|toolbar|tools|print|copyright"
    r"|legal|disclaimer|site-?(?:title|description|header|footer|info)|top-?bar|header-?bar"
    r"|counter|guest-?book|hidden|sr-only|visually-hidden|screen-reader\w*)(?:$|[\s_-])",
    re.IGNORECASE,
)
_ALWAYS = re.compile(
    r"(?:^|[\s_-])(?:cookies?|consent|gdpr|newsletter|subscribe|adsbygoogle|disqus)(?:$|[\s_-])",
    re.IGNORECASE,
)
"""Names so plain that neither size nor long sentences speak for an element."""

_KEPT = re.compile(r"(?:^|[\s_-])(?:article|story|main|content|body|post|entry)(?:$|[\s_-])", re.I)
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?:px|pt|em)?\s*(?:;|$)"
    r"|opacity\s*:\s*0(?:\.0+)?\s*(?:;|$)|(?:left|top|text-indent)\s*:\s*-\d{3,}"
    r"|(?<!-)color\s*:\s*(?:#fff(?:fff)?|white)\b",
    re.IGNORECASE,
)


def is_hidden(node: Any) -> bool:
    """Whether attributes or the style of an element hide it from readers."""
    if node.get("hidden") is not None or node.get("aria-hidden") == "true":
        return True
    style = node.get("style")
    return bool(style and _HIDING_STYLE.search(style))


def clean(tree: Any) -> None:
    """Remove, in place, what surely is no main text."""
    body = tree.find("body")
    if body is None:
        return
    etree.strip_elements(body, etree.Comment, etree.ProcessingInstruction, with_tail=False)
    title = next(body.iter("h1"), None)
    kept = {title, *title.iterancestors()} if title is not None else set()
    limit = MAX_SHARE * len(_squeezed(body))
    for node in list(body.iter()):
        if node is body or node in kept or node.getparent() is None:
            continue
        if node.tag in _FRAME or is_hidden(node) or _is_framing(node, limit):
            drop(node)
    _drop_link_lists(body, kept)
    if title is not None:
        _drop_other_cells(title)
    _join_inline(body)
    _join_definitions(body)


def _join_inline(body: Any) -> None:
    """Make text of inline elements, so that no sentence breaks at a link or a bold word."""
    etree.strip_tags(body, *sorted(_INLINE))
    for link in list(body.iter("a")):
        block = link.getparent()
        if block is None or block.tag == "a":
            continue
        linked = sum(len(_squeezed(other)) for other in block.iter("a"))
        if 2 * linked <= len(_squeezed(block)):
            link.tag = "fledge-inline"
    etree.strip_tags(body, "fledge-inline")


def _join_definitions(body: Any) -> None:
    """Definition lists as paragraphs ``term: definition``."""
    for item in list(body.iter("dt")):
        term, definition = " ".join("".join(item.itertext()).split()), item.getnext()
        if not term or definition is None or definition.tag != "dd" or term.endswith(("?", "？")):
            continue
        colon = "：" if "\u3040" <= term[-1] <= "\u9fff" else ": "
        meaning = " ".join("".join(definition.itertext()).split())
        for child in list(definition):
            definition.remove(child)
        definition.text = term.rstrip(":：") + colon + meaning
        definition.tag = "p"
        drop(item)


def _drop_other_cells(title: Any) -> None:
    """Where a table lays out the page, remove the small cells around the one with the title."""
    cell = next(title.iterancestors("td", "th"), None)
    table = next(cell.iterancestors("table"), None) if cell is not None else None
    if cell is None or table is None:
        return
    size = len(_squeezed(cell))
    around = {cell, *cell.iterancestors()}
    for other in list(table.iter("td", "th")):
        inside = cell in other.iterancestors()
        if other not in around and not inside and 3 * len(_squeezed(other)) < size:
            drop(other)


def drop(node: Any) -> None:
    """Remove an element but not the text that follows it."""
    parent = node.getparent()
    if parent is None:
        return
    if node.tail and node.tail.strip():
        before = node.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + " " + node.tail
        else:
            parent.text = (parent.text or "") + " " + node.tail
    parent.remove(node)


def _squeezed(node: Any) -> str:
    return "".join("".join(node.itertext()).split())


def _fits(node: Any, limit: float) -> bool:
    """Whether an element is so small, and its text so broken up, that a name may condemn it."""
    runs = (text for text in node.itertext() if len(text) > MAX_RUN)
    return next(runs, None) is None and len(_squeezed(node)) <= limit


def _is_framing(node: Any, limit: float) -> bool:
    """Whether an element's tag, role or names say that it is not the text."""
    names = f"{node.get('class') or ''} {node.get('id') or ''}"
    if _ALWAYS.search(names) and len(_squeezed(node)) < 3 * limit:
        return True
    framing = (
        node.tag in ("footer", "header")
        or node.get("role") in _ROLES
        or (_NAMES.search(names) and not (node.tag == "article" and _KEPT.search(names)))
    )
    return bool(framing) and _fits(node, limit)


def _drop_link_lists(body: Any, kept: set[Any]) -> None:
    """Remove blocks that are mostly link text, the innermost first."""
    for node in list(body.iter(*_BLOCKS)):
        if node in kept or node.getparent() is None:
            continue
        links = list(node.iter("a"))
        if len(links) < 2 and not (links and node.tag in ("li", "p", "div", "td", "span")):
            continue
        linked = sum(len(_squeezed(link)) for link in links)
        total = len(_squeezed(node))
        if linked >= MIN_LINK_SHARE * total and (len(links) >= 2 or total < 60):
            drop(node)
