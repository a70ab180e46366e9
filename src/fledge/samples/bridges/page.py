"""A page of the sample web before it becomes HTML, and its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

BlockKind = Literal["heading", "paragraph", "rows"]

COLON = {"zh-Hans": "：", "zh-Hant": "：", "ja": "："}


@dataclass(frozen=True)
class Block:
    """A piece of main text: a heading, a paragraph, or a table of label and value."""

    kind: BlockKind
    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Site:
    """A web site: where it lives, what it calls itself, how its pages look."""

    domain: str
    name: str
    layout: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page.  ``blocks`` below the title are its main text; everything else is chrome.

    ``reason`` is the family of the expected drop (None: keep); ``hidden`` is text in the HTML
    that no reader sees; ``raw`` replaces the rendered HTML; ``charset`` is what the page
    declares and ``declared`` where ("header", "meta", "both").
    """

    url: str
    site: Site
    kind: str
    language: str
    title: str
    blocks: tuple[Block, ...]
    date: str = ""
    article: str = ""
    reason: str | None = None
    detail: str = ""
    pii: tuple[str, ...] = ()
    pii_kinds: tuple[str, ...] = ()
    not_pii: tuple[str, ...] = ()
    duplicate_group: str | None = None
    duplicate_kind: str | None = None
    charset: str = "utf-8"
    declared: str = "both"
    entities: bool = False
    mojibake: bool = False
    hidden: str = ""
    raw: bytes | None = None

    @property
    def text(self) -> str:
        """The main text as an ideal extractor returns it: a line per block, in reading order."""
        lines = [self.title, *(block_text(block, self.language) for block in self.blocks)]
        return "\n".join(line for line in lines if line)


def block_text(block: Block, language: str) -> str:
    """A block as plain text; a table becomes a line ``label: value`` per row."""
    if block.kind != "rows":
        return block.text
    colon = COLON.get(language, ": ")
    return "\n".join(f"{label}{colon}{value}" for label, value in block.rows)


def text_language(page: Page) -> str:
    """The language of the main text: "code" for programs, empty where there is no language."""
    if page.detail == "code" or page.kind == "secrets":
        return "code"
    return page.language if page.text and page.detail not in ("gibberish", "link_farm") else ""


def truth_row(page: Page) -> dict[str, Any]:
    """The line of ``truth/pages.jsonl`` about one page."""
    return {
        "url": page.url,
        "kind": page.kind,
        "keep": page.reason is None,
        "reason": page.reason,
        "detail": page.detail,
        "text": page.text,
        "language": text_language(page),
        "pii": list(page.pii),
        "pii_kinds": list(page.pii_kinds),
        "not_pii": list(page.not_pii),
        "duplicate_group": page.duplicate_group,
        "duplicate_kind": page.duplicate_kind,
        "layout": page.site.layout,
        "charset": page.charset,
        "mojibake": page.mojibake,
        "article": page.article,
    }
