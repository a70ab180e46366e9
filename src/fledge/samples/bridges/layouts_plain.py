"""Pages in, HTML out: old and bare sites, scrapers, lists of questions."""

from __future__ import annotations

from html import escape

from fledge.samples.bridges.chrome import Chrome
from fledge.samples.bridges.markup import blocks_html, inline_markup
from fledge.samples.bridges.page import Page


def old_tables(page: Page, chrome: Chrome) -> str:
    """A home page of 1998: layout by nested tables, unclosed tags, line breaks for paragraphs."""
    w = chrome.words
    links = "<BR>\n".join(
        f'<A HREF="p{i}.htm">{n}</A>' for i, n in enumerate(chrome.some(w.nav, 7))
    )
    body = blocks_html(
        page,
        inline_markup(page, chrome.rng, 1),
        paragraph='<FONT FACE="Times" SIZE=3>{}</FONT><BR><BR>\n',
        heading='<FONT SIZE=4 COLOR="#800000"><B>{}</B></FONT><BR><BR>\n',
        rows="font",
    )
    return (
        '<BODY BGCOLOR="#FFFFEE" TEXT="#000000" LINK="#0000CC">\n'
        '<TABLE WIDTH="780" BORDER=0 CELLSPACING=0><TR><TD COLSPAN=2 BGCOLOR="#003366">'
        f'<FONT COLOR="#FFFFFF" SIZE=5>{escape(page.site.name)}</FONT></TD></TR>\n'
        f'<TR><TD WIDTH=140 VALIGN=TOP BGCOLOR="#CCDDEE"><FONT SIZE=2>{links}</FONT></TD>\n'
        f"<TD VALIGN=TOP><H1>{escape(page.title)}</H1>\n<HR>\n{body}</TD></TR>\n"
        f"<TR><TD COLSPAN=2 ALIGN=CENTER><FONT SIZE=1>{escape(w.visitors)} "
        f"{chrome.rng.randrange(100, 99999)}<BR>{escape(w.guestbook)}</FONT></TD></TR>"
        f"</TABLE>\n</BODY>"
    )


def mirror(page: Page, chrome: Chrome) -> str:
    """A scraper: other people's text in anonymous boxes, advertisements around and inside."""
    slot = chrome.rng.randrange(1, max(2, len(page.blocks)))

    def between(index: int) -> str:
        return chrome.ad() if index == slot else ""

    body = blocks_html(
        page,
        inline_markup(page, chrome.rng, 0),
        paragraph='<div class="txt">{}</div>\n',
        heading='<div class="txt"><b>{}</b></div>\n',
        between=between,
    )
    links = " ".join(
        f'<a href="/k{i}">{escape(t.title)}</a>' for i, t in enumerate(chrome.teasers[:8])
    )
    return (
        f'<body>\n{chrome.ad()}<div id="wrap"><div id="hd">{escape(page.site.name)} {links}</div>\n'
        f'<div id="c1"><div class="t"><h1>{escape(page.title)}</h1></div>\n'
        f'<div class="c2">\n{body}</div></div>\n'
        f'{chrome.ad()}<div id="tagcloud" class="tags">'
        f"{' '.join(chrome.some(chrome.words.tags, 5))}</div>\n"
        f"{chrome.script()}{chrome.footer()}</div></body>"
    )


def faq(page: Page, chrome: Chrome) -> str:
    """A help page: questions that open, answers below them."""
    w = chrome.words
    body = blocks_html(
        page,
        inline_markup(page, chrome.rng, 1),
        paragraph='<div class="answer"><p>{}</p></div>\n',
        heading='<h3 class="question">{}</h3>\n',
    )
    return (
        f'<body class="help-center">\n<header class="hc-header">{chrome.nav()}</header>\n'
        f"{chrome.cookie_banner()}"
        f'<main role="main"><section class="faq" itemscope itemtype="https://schema.org/FAQPage">\n'
        f'<h1>{escape(page.title)}</h1>\n<div class="faq-list">\n{body}</div></section></main>\n'
        f'<div class="article-votes feedback">{escape(w.feedback)}</div>'
        f"{chrome.related(3, 'section')}"
        f"{chrome.footer()}{chrome.script()}</body>"
    )


def plain(page: Page, chrome: Chrome) -> str:
    """A bare page by hand: text first, a line of links at the foot, paragraphs never closed."""
    body = blocks_html(
        page, inline_markup(page, chrome.rng, 2), paragraph="<p>{}\n", heading="<h2>{}</h2>\n"
    )
    links = " | ".join(
        f'<a href="{i}.html">{n}</a>' for i, n in enumerate(chrome.some(chrome.words.nav, 5))
    )
    return f"<body>\n<h1>{escape(page.title)}</h1>\n{body}<hr>\n<p><small>{links}</small>\n</body>"
