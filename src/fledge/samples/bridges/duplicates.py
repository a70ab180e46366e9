"""Copies of pages: word for word on another site, or with the small edits copies pick up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.page import Block, Page
from fledge.samples.bridges.shingles import jaccard, shingles
from fledge.samples.bridges.sites import Addresses, site_for

LEAST = 0.82
"""A near duplicate is at least this similar to its original (truth promises 0.8)."""
MOST_BETWEEN_PAGES = 0.55
"""Two pages that are no copies of each other are at most this similar."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


def mirror_page(page: Page, addresses: Addresses, rng: Random) -> Page:
    """The same main text on another site."""
    layouts = ("mirror", "mirror", "plain", "blog", "news")
    layout = rng.choice([name for name in layouts if name != page.site.layout])
    site = site_for(layout, page.language, rng)
    return replace(
        page,
        url=addresses.give(site, page.article, page.date[:4], rng),
        site=site,
        reason="duplicate",
        detail="mirror",
        duplicate_kind="exact",
        charset="utf-8",
        declared="both",
        entities=False,
    )


def near_copy(page: Page, addresses: Addresses, rng: Random) -> Page:
    """A copy with edits: as many as leave it at least ``LEAST`` similar, one at the very least."""
    original = shingles(page.text)
    edits = [_dated, _swapped, _swapped, _dropped, _extended]
    rng.shuffle(edits)
    copy = page
    names: list[str] = []
    for edit in edits:
        changed = replace(copy, blocks=edit(copy, rng))
        if changed.text != copy.text and jaccard(original, shingles(changed.text)) >= LEAST:
            copy = changed
            names.append(edit.__name__.strip("_"))
    if not names:
        copy = replace(page, title=page.title.rstrip("?？") + " (2)")
        names = ["retitled"]
    site = site_for(rng.choice(("mirror", "blog", "plain", "news", "forum")), page.language, rng)
    return replace(
        copy,
        url=addresses.give(site, page.article, page.date[:4], rng),
        site=site,
        reason="duplicate",
        detail="+".join(names),
        duplicate_kind="near",
        charset="utf-8",
        declared="both",
        entities=False,
    )


Edit = Callable[[Page, Random], tuple[Block, ...]]


@cache
def _words() -> dict[str, Any]:
    table: dict[str, Any] = word_table("noise")["near"]
    return table


def _dated(page: Page, rng: Random) -> tuple[Block, ...]:
    """A line with the day of an update, at the end."""
    year, month, day = rng.randrange(2015, 2024), rng.randrange(1, 13), rng.randrange(1, 29)
    when = f"{year}-{month:02d}-{day:02d}"
    if page.language != "en":
        when = f"{year}年{month}月{day}日"
    line = str(_words()[page.language]["dated"]).format(d=when)
    return (*page.blocks, Block("paragraph", line))


def _extended(page: Page, rng: Random) -> tuple[Block, ...]:
    """One more sentence, in a paragraph of its own."""
    at = rng.randrange(1, len(page.blocks) + 1)
    line = rng.choice(_words()[page.language]["extra"])
    return (*page.blocks[:at], Block("paragraph", line), *page.blocks[at:])


def _swapped(page: Page, rng: Random) -> tuple[Block, ...]:
    """One wording replaced by another of the same meaning, once."""
    swaps = list(_words()[page.language]["swaps"])
    rng.shuffle(swaps)
    for old, new in swaps:
        for index, block in enumerate(page.blocks):
            pattern = rf"\b{re.escape(old)}\b" if page.language == "en" else re.escape(old)
            text, count = re.subn(pattern, new, block.text, count=1)
            if count:
                changed = replace(block, text=text)
                return (*page.blocks[:index], changed, *page.blocks[index + 1 :])
    return page.blocks


def _dropped(page: Page, rng: Random) -> tuple[Block, ...]:
    """One sentence left out of a paragraph that has several."""
    long = [i for i, b in enumerate(page.blocks) if len(_sentences(b.text)) > 1]
    if not long:
        return page.blocks
    index = rng.choice(long)
    sentences = _sentences(page.blocks[index].text)
    del sentences[rng.randrange(len(sentences))]
    text = (" " if page.language == "en" else "").join(sentences)
    return (*page.blocks[:index], Block("paragraph", text), *page.blocks[index + 1 :])


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE.split(text) if part]


def unlike(texts: Sequence[str], most: float = MOST_BETWEEN_PAGES) -> list[int]:
    """Indices of the texts that are at most ``most`` similar to every kept one before them."""
    kept: list[tuple[int, frozenset[str]]] = []
    for index, text in enumerate(texts):
        grams = shingles(text)
        if all(jaccard(grams, other) <= most for _, other in kept):
            kept.append((index, grams))
    return [index for index, _ in kept]
