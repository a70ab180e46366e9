"""Main text as HTML: the blocks of a page in the various habits of web authors."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from random import Random

from fledge.samples.bridges.page import Block, Page

Inline = Callable[[str], str]

_WORD = re.compile(r"[A-Za-z]{4,}|[\u4e00-\u9fff]{2,4}")


def inline_markup(page: Page, rng: Random, links: int = 2) -> Inline:
    """A function from plain text to HTML with some words linked or set in bold.

    Text that holds planted strings is only escaped, so that each stays in one piece.
    """
    planted = (*page.pii, *page.not_pii)

    def mark(text: str) -> str:
        if any(string in text for string in planted):
            return escape(text)
        words = list(_WORD.finditer(text))
        picked = sorted(
            rng.sample(words, min(rng.randrange(links + 1), len(words))), key=lambda m: m.start()
        )
        parts: list[str] = []
        done = 0
        for match in picked:
            parts += [escape(text[done : match.start()]), _wrap(match.group(), rng)]
            done = match.end()
        return "".join([*parts, escape(text[done:])])

    return mark


def _wrap(word: str, rng: Random) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return f"<b>{escape(word)}</b>"
    if kind == 1:
        return f'<em class="term">{escape(word)}</em>'
    return f'<a href="/wiki/{rng.randrange(9999)}" title="{escape(word)}">{escape(word)}</a>'


def blocks_html(
    page: Page,
    mark: Inline,
    *,
    paragraph: str = "<p>{}</p>\n",
    heading: str = "<h2>{}</h2>\n",
    rows: str = "table",
    between: Callable[[int], str] | None = None,
) -> str:
    """The blocks of ``page`` in order; ``between(i)`` gives chrome to put before block ``i``."""
    parts: list[str] = []
    for index, block in enumerate(page.blocks):
        if between is not None:
            parts.append(between(index))
        if block.kind == "rows":
            parts.append(ROWS[rows](block))
        elif block.kind == "heading":
            parts.append(heading.format(mark(block.text) if rows == "font" else escape(block.text)))
        else:
            parts.append(paragraph.format(mark(block.text)))
    return "".join(parts)


def _table(block: Block) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>\n' for a, b in block.rows
    )
    return f'<table class="facts"><tbody>\n{lines}</tbody></table>\n'


def _infobox(block: Block) -> str:
    lines = "".join(
        f'<tr><th scope="row" class="infobox-label">{escape(a)}</th>'
        f'<td class="infobox-data">{escape(b)}</td></tr>\n'
        for a, b in block.rows
    )
    image = '<tr><td colspan="2"><img src="/thumb/bridge.jpg" width="220" alt=""></td></tr>\n'
    return f'<table class="infobox vcard"><tbody>\n{image}{lines}</tbody></table>\n'


def _font(block: Block) -> str:
    lines = "".join(
        f'<TR><TD BGCOLOR="#EEEECC"><FONT SIZE=2><B>{escape(a)}</B></FONT><TD><FONT SIZE=2>'
        f"{escape(b)}</FONT>\n"
        for a, b in block.rows
    )
    return f"<TABLE BORDER=1 CELLPADDING=3>\n{lines}</TABLE><BR>\n"


def _list(block: Block) -> str:
    lines = "".join(f"<li><b>{escape(a)}</b> {escape(b)}</li>\n" for a, b in block.rows)
    return f'<ul class="key-facts">\n{lines}</ul>\n'


ROWS: dict[str, Callable[[Block], str]] = {
    "table": _table,
    "infobox": _infobox,
    "font": _font,
    "list": _list,
}


def head_html(page: Page, extra: str = "") -> str:
    """The head of a document: charset, title with the site's name, metadata, styles."""
    charset = ""
    if page.declared in ("meta", "both"):
        charset = (
            f'<meta charset="{page.charset}">'
            if page.charset == "utf-8"
            else f'<meta http-equiv="Content-Type" content="text/html; charset={page.charset}">'
        )
    title = escape(f"{page.title} - {page.site.name}" if page.title else page.site.name)
    if page.site.layout == "old":
        return f"<head>\n{charset}\n<title>{title}</title>\n</head>\n"
    return (
        f'<head>\n{charset}\n<title>{title}</title>\n<link rel="stylesheet" href="/s/main.css">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta property="og:site_name" content="{escape(page.site.name)}">\n{extra}</head>\n'
    )
