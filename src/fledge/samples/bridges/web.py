"""Articles in, the pages of the messy web out: who shows what, and what else a crawl brings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol

from fledge.samples.bridges.charsets import LEGACY, encode_html
from fledge.samples.bridges.chrome import Chrome, Teaser, words
from fledge.samples.bridges.config import SamplesConfig
from fledge.samples.bridges.duplicates import mirror_page, near_copy, unlike
from fledge.samples.bridges.facts import Bridge
from fledge.samples.bridges.layouts import render
from fledge.samples.bridges.noise import (
    empty_page,
    inject,
    other_language_page,
    poison_page,
    secrets_page,
    spam_page,
    unsafe_page,
)
from fledge.samples.bridges.page import Block, Page
from fledge.samples.bridges.personal import plant
from fledge.samples.bridges.sites import Addresses, layout_for, site_for
from fledge.samples.bridges.warc import Response


class Article(Protocol):
    """What the writers of articles hand over."""

    @property
    def key(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def paragraphs(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def subjects(self) -> tuple[str, ...]: ...
    @property
    def date(self) -> str: ...


def build_pages(
    config: SamplesConfig, articles: Sequence[Article], bridges: Sequence[Bridge]
) -> list[Page]:
    """Every page of the web, in the order in which it was crawled."""
    addresses = Addresses()
    pages = [_article_page(a, addresses, config.seed) for a in distinct(articles)]
    pages = _changed_in_place(config, pages)
    copies = _copies(config, pages, addresses)
    noise = _noise(config, len(pages), bridges, addresses)
    crawl = [*copies, *noise]
    Random(f"{config.seed}/crawl").shuffle(crawl)
    return crawl


def distinct(articles: Sequence[Article]) -> list[Article]:
    """The articles without those that resemble another one about the same bridge by accident."""
    groups: dict[tuple[str, str], list[Article]] = defaultdict(list)
    for article in articles:
        groups[article.subjects[0] if article.subjects else "", article.language].append(article)
    kept: list[Article] = []
    for group in groups.values():
        texts = [
            "\n".join((a.title, *(v for r in a.rows for v in r), *a.paragraphs)) for a in group
        ]
        kept += [group[index] for index in unlike(texts)]
    return kept


def _article_page(article: Article, addresses: Addresses, seed: int) -> Page:
    rng = Random(f"{seed}/page/{article.key}")
    site = site_for(layout_for(article.kind, rng), article.language, rng)
    entities = rng.random() < 0.03
    return Page(
        url=addresses.give(site, article.key, article.date[:4], rng),
        site=site,
        kind=article.kind,
        language=article.language,
        title=article.title,
        blocks=_blocks(article, site.layout, rng),
        date=article.date,
        article=article.key,
        declared=rng.choice(("both", "both", "meta", "header")),
        entities=entities,
    )


def _blocks(article: Article, layout: str, rng: Random) -> tuple[Block, ...]:
    """The article's main text: rows before or after the prose, headings where a site has them."""
    paragraphs = [Block("paragraph", text) for text in article.paragraphs]
    if layout in ("encyclopedia", "government") and 2 <= len(paragraphs) <= 5:
        names = rng.sample(words(article.language).sections, len(paragraphs) - 1)
        for index, name in enumerate(names):
            paragraphs.insert(2 * index + 1, Block("heading", name))
    if not article.rows:
        return tuple(paragraphs)
    rows = Block("rows", rows=article.rows)
    first = layout in ("encyclopedia", "old") or rng.random() < 0.5
    return (rows, *paragraphs) if first else (*paragraphs, rows)


def _changed_in_place(config: SamplesConfig, pages: list[Page]) -> list[Page]:
    """Shares of the pages injected, planted with personal data, garbled, or in old charsets."""
    rng = Random(f"{config.seed}/in place")
    order = rng.sample(range(len(pages)), len(pages))
    plan: tuple[tuple[float, Callable[[Page, Random], Page]], ...] = (
        (config.injections, inject),
        (config.pii, plant),
        (config.mojibake, _garbled),
        (config.legacy_charsets, _legacy),
    )
    changed = list(pages)
    start = 0
    for share, change in plan:
        count = round(share * len(pages))
        for index in order[start : start + count]:
            changed[index] = change(pages[index], rng)
        start += count
    return changed


_TYPOGRAPHIC = (
    "“A bridge joins two banks – and two days,” says the visitors’ book…",
    "The café beside it – “Chez Zoé” – serves crêpes at noon…",
    "It’s best seen at dusk – bring a coat – and don’t miss the façade…",
)


def _garbled(page: Page, rng: Random) -> Page:
    """A page whose UTF-8 was read as windows-1252; English gets a line that shows it."""
    if page.language == "en":
        line = Block("paragraph", rng.choice(_TYPOGRAPHIC))
        page = replace(page, blocks=(*page.blocks, line))
    return replace(page, mojibake=True, entities=False)


def _legacy(page: Page, rng: Random) -> Page:
    charset = rng.choice(LEGACY[page.language])
    if page.language == "en":
        line = Block("paragraph", rng.choice(_TYPOGRAPHIC))
        page = replace(page, blocks=(*page.blocks, line))
    declared = rng.choice(("both", "meta", "header"))
    return replace(page, charset=charset, declared=declared, entities=False)


def _copies(config: SamplesConfig, pages: list[Page], addresses: Addresses) -> list[Page]:
    """``pages``, those with copies marked, and the copies."""
    rng = Random(f"{config.seed}/copies")
    able = [
        i for i, p in enumerate(pages) if p.reason is None and not (p.pii or p.mojibake or p.hidden)
    ]
    near, exact = (round(share * len(pages)) for share in (config.near_duplicates, config.mirrors))
    picked = rng.sample(able, min(len(able), near + exact))
    makers = [near_copy] * near + [mirror_page] * exact
    rng.shuffle(makers)
    marked = list(pages)
    copies: list[Page] = []
    for number, (index, make) in enumerate(zip(picked, makers, strict=False)):
        # some originals are copied more than once: the last fifth reuses the first ones
        source = picked[number - 4 * len(picked) // 5] if number >= 4 * len(picked) // 5 else index
        marked[source] = replace(marked[source], duplicate_group=f"group-{source:05d}")
        copies.append(make(marked[source], addresses, rng))
    return marked + copies


def _noise(
    config: SamplesConfig, articles: int, bridges: Sequence[Bridge], addresses: Addresses
) -> list[Page]:
    rng = Random(f"{config.seed}/noise")
    plan: tuple[tuple[float, Callable[[Addresses, Random], Page]], ...] = (
        (config.spam, spam_page),
        (config.unsafe, unsafe_page),
        (config.poison, lambda addresses, rng: poison_page(bridges, addresses, rng)),
        (config.other_languages, other_language_page),
        (config.empty, empty_page),
        (config.secrets, secrets_page),
    )
    return [make(addresses, rng) for share, make in plan for _ in range(round(share * articles))]


def responses(pages: Sequence[Page], seed: int) -> Iterator[Response]:
    """Every page as its server sends it; now and then an answer that is no page."""
    teasers = _teasers(pages)
    for number, page in enumerate(pages):
        rng = Random(f"{seed}/render/{page.url}")
        yield Response(
            url=page.url,
            body=_body(page, Chrome(page, words(page.language), teasers[page.language], rng)),
            content_type=_content_type(page),
            headers=(("Server", rng.choice(("nginx", "Apache/2.4.41", "IIS/6.0"))),),
        )
        if number % 150 == 0:
            yield from _no_pages(page, rng)


def _teasers(pages: Sequence[Page]) -> dict[str, tuple[Teaser, ...]]:
    """Pages worth linking to, by language."""
    found: dict[str, list[Teaser]] = defaultdict(list)
    for page in pages:
        pool = found[page.language]
        if len(pool) < 400 and page.reason in (None, "language") and page.blocks:
            text = next((b.text for b in page.blocks if b.kind == "paragraph"), "")
            pool.append(Teaser(page.title, f"{text[:70]}…", page.url))
    return {language: tuple(pool) for language, pool in found.items()}


def _body(page: Page, chrome: Chrome) -> bytes:
    if page.raw is not None:
        return page.raw
    html = render(page, chrome)
    return encode_html(html, page.charset, entities=page.entities, mojibake=page.mojibake)


def _content_type(page: Page) -> str:
    if page.declared == "meta" or page.raw is not None:
        return "text/html"
    return f"text/html; charset={page.charset}"


def _no_pages(page: Page, rng: Random) -> Iterator[Response]:
    """A redirect, a missing page, robots.txt, a picture."""
    base = f"https://{page.site.domain}"
    number = rng.randrange(10**9)
    moved = (("Location", page.url),)
    yield Response(f"{base}/old/{number}", b"", status="301 Moved Permanently", headers=moved)
    missing = b"<html><body><h1>404 Not Found</h1></body></html>"
    yield Response(f"{base}/gone/{number}", missing, status="404 Not Found")
    robots = b"User-agent: *\r\nDisallow: /admin/\r\n"
    yield Response(f"{base}/{number}/robots.txt", robots, content_type="text/plain")
    picture = b"\x89PNG\r\n\x1a\n" + rng.randbytes(64)
    yield Response(f"{base}/img/{number}.png", picture, content_type="image/png")
