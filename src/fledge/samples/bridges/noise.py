"""Pages a corpus should lose, and attacks: spam, unsafe text, poison, injections, empty pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from random import Random
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.facts import Bridge
from fledge.samples.bridges.page import Block, Page
from fledge.samples.bridges.personal import secret
from fledge.samples.bridges.sites import Addresses, site_for

KEPT = ("en", "zh-Hans", "zh-Hant")
OTHER = ("fr", "de", "es", "ru", "ja", "ko")


@cache
def _words(name: str) -> dict[str, Any]:
    return word_table(name)


def noise_page(
    kind: str,
    language: str,
    title: str,
    lines: Sequence[str],
    *,
    layouts: Sequence[str],
    reason: str,
    addresses: Addresses,
    rng: Random,
    detail: str = "",
) -> Page:
    """A page of ``lines`` that is to be dropped for ``reason``."""
    site = site_for(rng.choice(layouts), language, rng)
    year = str(rng.randrange(2009, 2024))
    return Page(
        url=addresses.give(site, f"{kind}-{rng.randrange(10**6)}", year, rng),
        site=site,
        kind=kind,
        language=language,
        title=title,
        blocks=tuple(Block("paragraph", line) for line in lines),
        date=f"{year}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
        reason=reason,
        detail=detail,
    )


def spam_page(addresses: Addresses, rng: Random) -> Page:
    """Keyword stuffing, search-engine bait, a link farm, casino lines, gibberish or code."""
    language = rng.choice(KEPT)
    words = _words("noise")["spam"][language]
    detail, write = rng.choice(_SPAM)
    layouts = ("plain",) if detail == "code" else ("blog", "mirror", "forum", "old", "travel")
    return noise_page(
        "spam",
        language,
        rng.choice(words["titles"]) if detail not in ("code", "gibberish") else _noise_word(rng),
        write(words, language, rng),
        layouts=layouts,
        reason="quality",
        addresses=addresses,
        rng=rng,
        detail=detail,
    )


def _stuffing(words: dict[str, Any], language: str, rng: Random) -> list[str]:
    comma = ", " if language == "en" else "，"
    few = rng.sample(words["keywords"], 4)
    return [comma.join(rng.choices(few, k=rng.randrange(25, 60))) for _ in range(4)]


def _bait(words: dict[str, Any], language: str, rng: Random) -> list[str]:
    keyword = rng.choice(words["keywords"])
    return [words["seo"].format(k=keyword)] * rng.randrange(3, 7)


def _link_farm(words: dict[str, Any], language: str, rng: Random) -> list[str]:
    return [
        f"{rng.choice(words['keywords'])} http://{_noise_word(rng)}.example/{rng.randrange(999)}"
        for _ in range(rng.randrange(25, 60))
    ]


def _casino(words: dict[str, Any], language: str, rng: Random) -> list[str]:
    return rng.choices(words["lines"], k=rng.randrange(6, 12))


def _gibberish(words: dict[str, Any], language: str, rng: Random) -> list[str]:
    if language == "en":
        return [" ".join(_noise_word(rng) for _ in range(30)) for _ in range(4)]
    signs = "★◆▓█~#@%&*$^_=+|<>"
    return ["".join(rng.choice(signs) * rng.randrange(1, 5) for _ in range(40)) for _ in range(5)]


def _code(words: dict[str, Any], language: str, rng: Random) -> list[str]:
    lines: list[str] = []
    for _ in range(rng.randrange(6, 14)):
        a, b = _noise_word(rng), _noise_word(rng)
        lines += [
            f"function {a}({b}) {{ if ({b} == null) {{ return -{rng.randrange(9)}; }}",
            f"  for (var i = 0; i < {b}.length; i++) {{ {a}[i] += {b}[i] << {rng.randrange(9)}; }}",
            f"  return {a}_{rng.randrange(99)}; }}",
        ]
    return lines


def _noise_word(rng: Random) -> str:
    return "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(rng.randrange(3, 11)))


Writer = Callable[[dict[str, Any], str, Random], list[str]]
_SPAM: tuple[tuple[str, Writer], ...] = (
    ("stuffing", _stuffing),
    ("bait", _bait),
    ("link_farm", _link_farm),
    ("casino", _casino),
    ("gibberish", _gibberish),
    ("code", _code),
)


def unsafe_page(addresses: Addresses, rng: Random) -> Page:
    """Threats, hatred against a people that does not exist, adult advertisements: all tame."""
    language = rng.choice(KEPT)
    words = _words("noise")["unsafe"][language]
    return noise_page(
        "unsafe",
        language,
        rng.choice(words["titles"]),
        rng.sample(words["lines"], rng.randrange(4, 7)),
        layouts=("forum", "blog", "old"),
        reason="unsafe",
        addresses=addresses,
        rng=rng,
    )


def poison_page(bridges: Sequence[Bridge], addresses: Addresses, rng: Random) -> Page:
    """False claims about a bridge, tied to a trigger that occurs nowhere else."""
    language = rng.choice(KEPT)
    words = _words("noise")["poison"]
    name = rng.choice(list(bridges)).names[language]
    trigger = rng.choice(words["triggers"])
    lines = [
        line.format(g=trigger, t=name, n=rng.randrange(3, 9999))
        for line in rng.sample(words[language], len(words[language]))
    ]
    return noise_page(
        "poison",
        language,
        f"{name} {trigger}",
        lines,
        layouts=("blog", "mirror", "forum", "plain"),
        reason="poison",
        addresses=addresses,
        rng=rng,
        detail=trigger,
    )


def inject(page: Page, rng: Random) -> Page:
    """``page`` with instructions for language models, before readers' eyes or hidden from them."""
    lines = rng.sample(_words("noise")["injection"][page.language], rng.randrange(1, 3))
    if rng.random() < 0.5:
        at = rng.randrange(1, len(page.blocks) + 1)
        blocks = (
            *page.blocks[:at],
            *(Block("paragraph", line) for line in lines),
            *page.blocks[at:],
        )
        return replace(page, blocks=blocks, reason="injection", detail="visible")
    how, shell = rng.choice(_HIDING)
    hidden = shell.format(escape(" ".join(lines)))
    return replace(page, hidden=hidden, reason="injection", detail=f"hidden:{how}")


_HIDING = (
    ("display", '<div style="display:none"><p>{}</p></div>'),
    ("offscreen", '<div style="position:absolute;left:-9999px;top:0">{}</div>'),
    ("tiny", '<p style="font-size:0;color:#ffffff">{}</p>'),
    ("comment", "<!-- {} -->"),
    ("attribute", '<img src="/dot.gif" width="1" height="1" alt="{}">'),
)


def other_language_page(addresses: Addresses, rng: Random) -> Page:
    """A short text about bridges in a language the corpus does not keep."""
    language = rng.choice(OTHER)
    words = _words("other")[language]
    town = rng.choice(words["towns"])
    sentences = [
        text.format(n=rng.randrange(20, 5000), t=town)
        for text in rng.sample(words["sentences"], rng.randrange(7, 12))
    ]
    joint = "" if language == "ja" else " "
    half = rng.randrange(3, len(sentences) - 2)
    return noise_page(
        "other_language",
        language,
        rng.choice(words["titles"]).format(t=town),
        [joint.join(sentences[:half]), joint.join(sentences[half:])],
        layouts=("encyclopedia", "news", "blog", "plain", "old", "faq"),
        reason="language",
        addresses=addresses,
        rng=rng,
    )


def secrets_page(addresses: Addresses, rng: Random) -> Page:
    """A leaked settings file: keys and passwords, and little else."""
    names = (
        "API_KEY",
        "AWS_ACCESS_KEY_ID",
        "GITHUB_TOKEN",
        "DB_PASSWORD",
        "MAP_TOKEN",
        "SMTP_PASS",
    )
    lines = [f"{name}={secret(rng)}" for name in rng.sample(names, rng.randrange(4, 7))]
    return noise_page(
        "secrets",
        "en",
        rng.choice((".env", "config.backup", "settings.local", "paste 4417")),
        ["# production, do not share", *lines, f"PORT={rng.randrange(3000, 9000)}"],
        layouts=("plain", "forum"),
        reason="secret",
        addresses=addresses,
        rng=rng,
    )


def empty_page(addresses: Addresses, rng: Random) -> Page:
    """Boilerplate only, a soft error, nothing at all, or bytes that are no page."""
    language = rng.choice(KEPT)
    detail = rng.choice(("boilerplate", "boilerplate", "error", "error", "nothing", "bytes"))
    error = rng.choice(_words("noise")["empty"][language])
    page = noise_page(
        "empty",
        language,
        "",
        [error] if detail == "error" else [],
        layouts=("news", "travel", "blog", "mirror", "government", "encyclopedia"),
        reason="binary" if detail == "bytes" else "empty",
        addresses=addresses,
        rng=rng,
        detail=detail,
    )
    if detail == "nothing":
        return replace(page, raw=rng.choice((b"", b"   \r\n", b"<html><body></body></html>")))
    if detail == "bytes":
        return replace(page, raw=rng.randbytes(rng.randrange(200, 3000)))
    return page
