"""The furniture around main text: navigation, banners, advertisements, comments, scripts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from html import escape
from importlib import resources
from random import Random
from typing import Any

from fledge.samples.bridges.page import Page


@dataclass(frozen=True)
class Words:
    """What a site says around its main text, in one language; empty where it stays silent."""

    home: str = ""
    nav: tuple[str, ...] = ()
    search: str = ""
    login: str = ""
    cookie: str = ""
    accept: str = ""
    reject: str = ""
    settings: str = ""
    share: tuple[str, ...] = ()
    related: str = ""
    popular: str = ""
    comments: str = ""
    comment: tuple[str, ...] = ()
    users: tuple[str, ...] = ("anna_k", "rivet_counter", "moss77", "t_square")
    reply: str = ""
    report: str = ""
    newsletter: str = ""
    subscribe: str = ""
    ads: tuple[str, ...] = ()
    byline: tuple[str, ...] = ()
    updated: str = ""
    contents: str = ""
    footer: tuple[str, ...] = ()
    rights: str = ""
    disclaimer: str = ""
    more: str = ""
    edit: str = ""
    tags: tuple[str, ...] = ()
    feedback: str = ""
    visitors: str = ""
    guestbook: str = ""
    book: str = ""
    reviews: tuple[str, ...] = ()
    login_wall: str = ""
    sections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Teaser:
    """Another page of the web, as a link to it shows it."""

    title: str
    text: str
    url: str


def word_table(name: str) -> dict[str, Any]:
    """A TOML table of the package's ``words`` folder."""
    folder = resources.files("fledge.samples.bridges").joinpath("words")
    return tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


@cache
def words(language: str) -> Words:
    """The furniture words of ``language``."""
    files = {"en": "chrome_en", "zh-Hans": "chrome_zh_hans", "zh-Hant": "chrome_zh_hant"}
    if language in files:
        table = word_table(files[language])
    else:
        table = word_table("chrome_other")[language]
    known = {field.name for field in fields(Words)}
    return Words(**{key: _frozen(value) for key, value in table.items() if key in known})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Chrome:
    """Everything a layout needs besides the page: words, other pages to link to, chance."""

    page: Page
    words: Words
    teasers: tuple[Teaser, ...]
    rng: Random

    def some(self, values: tuple[str, ...], count: int) -> list[str]:
        """Up to ``count`` different values, escaped."""
        return [escape(v) for v in self.rng.sample(values, min(count, len(values)))]

    def nav(self, tag: str = "nav", name: str = "main-menu") -> str:
        """A menu of links."""
        items = "".join(
            f'<li class="menu-item"><a href="/{i}/">{word}</a></li>'
            for i, word in enumerate([escape(self.words.home), *self.some(self.words.nav, 9)])
        )
        return f'<{tag} class="{name}" id="{name}"><ul>{items}</ul></{tag}>\n'

    def cookie_banner(self) -> str:
        """A consent dialogue."""
        w = self.words
        buttons = "".join(f"<button>{escape(b)}</button>" for b in (w.accept, w.reject, w.settings))
        return (
            '<div id="cookie-consent" class="cookie-banner" role="dialog" aria-live="polite">'
            f"<p>{escape(w.cookie)}</p>{buttons}</div>\n"
        )

    def ad(self) -> str:
        """An advertisement."""
        text = self.some(self.words.ads, 1)[0]
        number = self.rng.randrange(1000, 9999)
        return (
            f'<div class="advertisement ad-slot" id="ad-{number}" data-ad-unit="{number}">'
            f'<a href="https://ads.adserver.example/c?{number}" rel="sponsored nofollow">{text}</a>'
            "</div>\n"
        )

    def share(self) -> str:
        """Sharing buttons."""
        items = "".join(
            f'<a class="share-btn" href="#">{s}</a> ' for s in self.some(self.words.share, 4)
        )
        return f'<div class="social-share share-buttons">{items}</div>\n' if items else ""

    def related(self, count: int = 4, tag: str = "aside", name: str = "related") -> str:
        """Links to other pages, with their first sentence."""
        picked = self.rng.sample(self.teasers, min(count, len(self.teasers)))
        cards = "".join(
            f'<li class="card"><a href="{escape(t.url)}">{escape(t.title)}</a>'
            f'<span class="teaser">{escape(t.text)}</span></li>'
            for t in picked
        )
        head = escape(self.words.related)
        return (
            f'<{tag} class="{name}-articles {name}"><h3>{head}</h3><ul>{cards}</ul></{tag}>\n'
            if picked
            else ""
        )

    def popular(self) -> str:
        """A sidebar list of titles."""
        picked = self.rng.sample(self.teasers, min(5, len(self.teasers)))
        items = "".join(f'<li><a href="{escape(t.url)}">{escape(t.title)}</a></li>' for t in picked)
        return (
            f'<div class="widget popular"><h4>{escape(self.words.popular)}</h4>'
            f"<ol>{items}</ol></div>\n"
        )

    def comments(self) -> str:
        """Readers' comments below a page."""
        w = self.words
        items = "".join(
            f'<li class="comment" id="comment-{self.rng.randrange(10**6)}">'
            f'<div class="comment-author">{self.user()} <time>{self.page.date}</time></div>'
            f'<div class="comment-body"><p>{text}</p></div>'
            f'<a class="comment-reply-link" href="#">{escape(w.reply)}</a></li>\n'
            for text in self.some(w.comment, self.rng.randrange(2, 6))
        )
        return (
            f'<section id="comments" class="comments-area"><h3 class="comments-title">'
            f'{escape(w.comments)}</h3><ol class="comment-list">{items}</ol></section>\n'
        )

    def user(self) -> str:
        """Somebody's screen name."""
        return escape(self.rng.choice(self.words.users))

    def newsletter(self) -> str:
        """An invitation to subscribe."""
        w = self.words
        if not w.newsletter:
            return ""
        return (
            f'<form class="newsletter signup" action="/subscribe"><p>{escape(w.newsletter)}</p>'
            f'<input type="email" name="address"><button>{escape(w.subscribe)}</button></form>\n'
        )

    def footer(self) -> str:
        """The foot of every page."""
        w = self.words
        links = " | ".join(f'<a href="/legal">{f}</a>' for f in self.some(w.footer, 6))
        return (
            f'<footer class="site-footer" id="footer"><div class="footer-links">{links}</div>'
            f"<p>&copy; {self.rng.randrange(2012, 2024)} {escape(self.page.site.name)}. "
            f"{escape(w.rights)}</p><p>{escape(w.disclaimer)}</p></footer>\n"
        )

    def breadcrumb(self) -> str:
        """The way here from the home page."""
        middle = self.some(self.words.nav, 1)[0]
        return (
            f'<div class="breadcrumb breadcrumbs"><a href="/">{escape(self.words.home)}'
            f"</a> &raquo; "
            f'<a href="/{self.rng.randrange(90)}">{middle}</a></div>\n'
        )

    def script(self) -> str:
        """A script and a style sheet, as pages carry them in their middle."""
        number = self.rng.randrange(10**6)
        return self.rng.choice(_SCRIPTS).replace("NUMBER", str(number)) + "\n"


_SCRIPTS = (
    "<script>window.dataLayer=window.dataLayer||[];function gtag(){dataLayer.push(arguments);}"
    "gtag('js',new Date());gtag('config','UA-NUMBER');</script>",
    '<script type="text/javascript">var tpl="<div class=\\"pop\\"><p>Hello NUMBER</p></div>";'
    "if(top!==self){top.location=self.location;}document.write('<!-- NUMBER -->');</script>",
    "<style>.box-NUMBER{float:right;margin:0 0 1em 1em}@media(max-width:600px)"
    "{.box-NUMBER{float:none}}"
    ".ad-slot:before{content:'Ad'}</style>",
    '<script type="application/json" id="state-NUMBER">{"user":null,"flags":{"beta":true},'
    '"items":[1,2,3]}</script><noscript><img src="/pixel.gif?NUMBER" alt=""></noscript>',
)
