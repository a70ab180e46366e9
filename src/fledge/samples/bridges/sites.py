"""Which site shows a page, and at which address: every address of the web is given out once."""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.page import Site

KIND_LAYOUTS: dict[str, tuple[str, ...]] = {
    "entry": ("encyclopedia", "encyclopedia", "government", "old", "plain"),
    "infobox": ("encyclopedia", "government", "old", "travel"),
    "faq": ("faq", "faq", "forum"),
    "engineer": ("government", "blog", "old", "plain"),
    "travel": ("travel", "travel", "blog", "forum"),
    "news": ("news",),
    "card": ("faq", "encyclopedia", "travel", "plain"),
    "compare": ("blog", "forum", "news"),
    "roundup": ("blog", "news", "travel", "mirror"),
    "specification": ("government", "encyclopedia", "plain"),
}
"""Layouts that suit a kind of article; others may get any."""

_PATHS = {
    "encyclopedia": "/wiki/{slug}",
    "news": "/{year}/{slug}-{number}.html",
    "blog": "/{year}/{slug}/",
    "forum": "/viewtopic.php?t={number}",
    "government": "/documents/{number}/{slug}",
    "travel": "/places/{slug}-{number}.html",
    "old": "/~bridges/{slug}.htm",
    "mirror": "/copy/{number}.html",
    "faq": "/help/{number}-{slug}",
    "plain": "/{slug}.html",
}


def layout_for(kind: str, rng: Random) -> str:
    """A layout for an article of ``kind``."""
    return rng.choice(KIND_LAYOUTS.get(kind, tuple(_PATHS)))


def site_for(layout: str, language: str, rng: Random) -> Site:
    """A site with this layout in this language."""
    sites = _table()[layout]
    domain, name = rng.choice(sites.get(language, sites["other"]))
    return Site(domain, name, layout)


@cache
def _table() -> dict[str, Any]:
    return word_table("sites")


class Addresses:
    """Gives out URLs, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, site: Site, slug: str, year: str, rng: Random) -> str:
        """A new URL on ``site`` for a page called ``slug``."""
        slug = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-") or "page"
        path, suffix = _PATHS[site.layout], ""
        while True:
            number = rng.randrange(10**4, 10**7)
            url = f"https://{site.domain}" + path.format(
                slug=slug + suffix, number=number, year=year or "2020"
            )
            if url not in self._taken:
                self._taken.add(url)
                return url
            suffix = f"-{rng.randrange(10**6):06d}"
