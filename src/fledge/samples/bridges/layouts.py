"""Pages in, HTML out: how modern sites of several kinds wrap their main text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape

from fledge.samples.bridges.chrome import Chrome
from fledge.samples.bridges.layouts_plain import faq, mirror, old_tables, plain
from fledge.samples.bridges.markup import blocks_html, head_html, inline_markup
from fledge.samples.bridges.page import Page

LANGUAGE_TAG = {"zh-Hans": "zh-CN", "zh-Hant": "zh-TW"}


def encyclopedia(page: Page, chrome: Chrome) -> str:
    """An encyclopedia article: infobox, table of contents, sections with edit links."""
    w = chrome.words
    headings = [b.text for b in page.blocks if b.kind == "heading"]
    toc = "".join(
        f'<li class="toclevel-1"><a href="#s{i}">{escape(h)}</a></li>'
        for i, h in enumerate(headings)
    )
    contents = (
        f'<div id="toc" class="toc" role="navigation"><h2>{escape(w.contents)}</h2><ul>'
        f"{toc}</ul></div>\n"
        if headings
        else ""
    )
    first = next((i for i, b in enumerate(page.blocks) if b.kind == "heading"), -1)
    edit = (
        f'<span class="mw-editsection">[<a href="#edit">{escape(w.edit)}</a>]</span>'
        if w.edit
        else ""
    )
    body = blocks_html(
        page,
        inline_markup(page, chrome.rng, 4),
        heading=f'<h2><span class="mw-headline">{{}}</span>{edit}</h2>\n',
        rows="infobox",
        between=lambda index: contents if index == first else "",
    )
    tags = " | ".join(f'<a href="/c">{t}</a>' for t in chrome.some(w.tags, 3))
    return (
        f'<body class="skin-vector">\n<div id="mw-page-base" class="noprint"></div>\n'
        f'<header id="masthead">{chrome.nav()}<form id="search">'
        f'<input type="search" placeholder="{escape(w.search)}"></form></header>\n'
        f'<main id="content" class="mw-body" role="main">\n<h1 id="firstHeading">'
        f"{escape(page.title)}</h1>\n"
        f'<div id="bodyContent"><div id="mw-content-text">\n{body}</div>\n'
        f'<div id="catlinks" class="catlinks">{tags}</div></div></main>\n'
        f"{chrome.nav('div', 'sidebar-tools')}{chrome.footer()}{chrome.script()}</body>"
    )


def news(page: Page, chrome: Chrome) -> str:
    """A news site: ticker, byline, advertisements inside the story, comments, most read."""
    w = chrome.words
    slot = chrome.rng.randrange(1, max(2, len(page.blocks)))

    def between(index: int) -> str:
        return chrome.ad() + chrome.script() if index == slot else ""

    body = blocks_html(page, inline_markup(page, chrome.rng), between=between)
    byline = chrome.some(w.byline, 1)[0]
    return (
        f'<body class="article-page">\n{chrome.cookie_banner()}<header class="masthead">'
        f'<div class="logo"><a href="/">{escape(page.site.name)}</a></div>{chrome.nav()}'
        f'<div class="login">{escape(w.login)}</div></header>\n{chrome.breadcrumb()}'
        f'<div class="layout-grid"><main><article class="story" itemscope '
        f'itemtype="https://schema.org/NewsArticle">\n<h1 itemprop="headline">'
        f"{escape(page.title)}</h1>\n"
        f'<div class="byline">{byline} <time datetime="{page.date}">{page.date}</time></div>'
        f'{chrome.share()}<div class="article-body" itemprop="articleBody">\n{body}</div>\n'
        f"</article>\n{chrome.related()}{chrome.newsletter()}{chrome.comments()}</main>\n"
        f'<aside class="sidebar">{chrome.ad()}{chrome.popular()}</aside></div>\n{chrome.footer()}'
        f"{chrome.script()}</body>"
    )


def blog(page: Page, chrome: Chrome) -> str:
    """A blog: entry, share buttons, author box, comments, sidebar of widgets."""
    w = chrome.words
    body = blocks_html(
        page, inline_markup(page, chrome.rng, 3), heading="<h3>{}</h3>\n", rows="list"
    )
    tags = " ".join(f'<a rel="tag" href="/t">{t}</a>' for t in chrome.some(w.tags, 3))
    widgets = "".join(
        f'<div class="widget widget_links"><ul><li><a href="#">{n}</a></li></ul></div>'
        for n in chrome.some(w.nav, 5)
    )
    return (
        f'<body class="single single-post">\n<div id="page" class="hfeed site">'
        f'<header id="branding"><p class="site-title">{escape(page.site.name)}</p>'
        f"{chrome.nav()}</header>\n"
        f'<div id="primary"><article class="post hentry">\n<h1 class="entry-title">'
        f"{escape(page.title)}</h1>\n"
        f'<div class="entry-meta">{chrome.user()} / {page.date}</div>\n'
        f'<div class="entry-content">\n{body}</div>\n<div class="sharedaddy">{chrome.share()}</div>'
        f'<footer class="entry-footer">{tags}</footer></article>\n{chrome.comments()}</div>\n'
        f'<div id="secondary" class="widget-area" role="complementary">{widgets}{chrome.popular()}'
        f"{chrome.ad()}</div>\n{chrome.footer()}</div>{chrome.script()}</body>"
    )


def forum(page: Page, chrome: Chrome) -> str:
    """A forum thread: posts of a paragraph or two with their user panels."""
    w = chrome.words

    def panel() -> str:
        return (
            f'<div class="user-panel"><strong>{chrome.user()}</strong>'
            f'<span class="rank">#{chrome.rng.randrange(2, 900)}</span></div>'
        )

    tools = (
        f'<div class="post-tools"><a href="#">{escape(w.reply)}</a> <a href="#">'
        f"{escape(w.report)}</a></div>"
    )
    mark = inline_markup(page, chrome.rng, 1)
    posts: list[str] = []
    for index, block in enumerate(page.blocks):
        solo = blocks_html(_only(page, index), mark, heading="<h3>{}</h3>\n", rows="table")
        if index == 0 or (block.kind == "paragraph" and chrome.rng.random() < 0.6):
            posts.append(
                f'<div class="post" id="p{index}">{panel()}<div class="post-content">{solo}'
            )
        else:
            posts[-1] += solo
    thread = "".join(f"{post}</div>{tools}</div>\n" for post in posts)
    return (
        f'<body class="forum">\n<div id="header">{chrome.nav("div", "forum-nav")}</div>'
        f"{chrome.breadcrumb()}"
        f'<div class="login-box">{escape(w.login)}</div>\n<div id="main" class="thread">\n'
        f'<h1 class="topic-title">{escape(page.title)}</h1>\n<div id="posts">\n{thread}'
        f"</div></div>\n"
        f'<div class="pagination"><a href="?p=1">1</a> <a href="?p=2">2</a></div>{chrome.ad()}'
        f"{chrome.related(5, 'div', 'similar-threads')}{chrome.footer()}{chrome.script()}</body>"
    )


def _only(page: Page, index: int) -> Page:
    """``page`` with one of its blocks."""
    return replace(page, blocks=(page.blocks[index],))


def government(page: Page, chrome: Chrome) -> str:
    """A public authority's document: breadcrumb, contents, numbered clauses, feedback box."""
    w = chrome.words
    headings = [escape(b.text) for b in page.blocks if b.kind == "heading"]
    contents = "".join(f'<li><a href="#c{i}">{h}</a></li>' for i, h in enumerate(headings))
    body = blocks_html(
        page,
        inline_markup(page, chrome.rng, 1),
        paragraph='<p class="clause">{}</p>\n',
        heading='<h2 class="clause-title">{}</h2>\n',
    )
    return (
        f'<body class="govuk-template">\n<a class="skip-link" href="#main">&darr;</a>'
        f'<header role="banner" class="gov-header"><span>{escape(page.site.name)}</span>'
        f"{chrome.nav()}</header>\n{chrome.breadcrumb()}"
        f'<div class="grid"><nav class="contents-list"><h2>{escape(w.contents)}</h2><ol>'
        f"{contents}</ol></nav>\n"
        f'<main id="main" role="main"><article class="document">\n<h1>{escape(page.title)}</h1>\n'
        f'<div class="publication-meta metadata">{escape(w.updated)} {page.date}</div>\n'
        f"{body}</article></main>"
        f'</div>\n<div class="feedback-widget">{escape(w.feedback)}</div>{chrome.footer()}'
        f"{chrome.script()}</body>"
    )


def travel(page: Page, chrome: Chrome) -> str:
    """A travel portal: consent dialogue, hero, booking box, reviews, advertisements."""
    w = chrome.words
    slot = chrome.rng.randrange(1, max(2, len(page.blocks)))

    def between(index: int) -> str:
        if index != slot:
            return ""
        return f'<div class="promo booking-widget banner">{escape(w.book)}</div>{chrome.ad()}'

    body = blocks_html(
        page, inline_markup(page, chrome.rng), heading="<h3>{}</h3>\n", rows="list", between=between
    )
    reviews = "".join(f'<div class="review comment">{r}</div>' for r in chrome.some(w.reviews, 3))
    return (
        f'<body>\n{chrome.cookie_banner()}{chrome.script()}<div class="top-bar">'
        f"{chrome.nav('div', 'mega-nav')}"
        f'</div>\n<div class="hero"><img src="/hero.jpg" alt=""></div>\n{chrome.ad()}'
        f'<div class="content-wrapper"><div class="poi-description" id="content">\n<h1>'
        f"{escape(page.title)}</h1>\n"
        f'{chrome.share()}{body}</div>\n<div class="reviews comments" id="reviews">'
        f"{reviews}</div></div>\n"
        f"{chrome.related(6, 'div', 'recommendations')}{chrome.newsletter()}{chrome.ad()}"
        f"{chrome.footer()}"
        f"{chrome.script()}</body>"
    )


Layout = Callable[[Page, Chrome], str]

LAYOUTS: dict[str, Layout] = {
    "encyclopedia": encyclopedia,
    "news": news,
    "blog": blog,
    "forum": forum,
    "government": government,
    "travel": travel,
    "old": old_tables,
    "mirror": mirror,
    "faq": faq,
    "plain": plain,
}


def render(page: Page, chrome: Chrome) -> str:
    """The whole HTML document of ``page``."""
    tag = LANGUAGE_TAG.get(page.language, page.language)
    body = LAYOUTS[page.site.layout](page, chrome)
    if page.hidden:
        body = body.replace("</body>", f"{page.hidden}\n</body>").replace(
            "</BODY>", f"{page.hidden}\n</BODY>"
        )
    extra = chrome.script() if page.site.layout not in ("old", "plain") else ""
    start = "<!DOCTYPE html>\n" if page.site.layout != "old" else "<!-- made with notepad -->\n"
    return f'{start}<html lang="{tag}">\n{head_html(page, extra)}{body}\n</html>\n'
