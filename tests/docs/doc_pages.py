"""Markdown pages taken apart: code blocks, code spans, links, headings, command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
DOCS = tuple(sorted((ROOT / "docs").rglob("*.md")))
PAGES = (*READMES, ROOT / "CONTRIBUTING.md", *(page for page in DOCS if ".in." not in page.name))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced code block; ``line`` is that of its first line in the page."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """The inline code of a page, a line break in it read as a space."""
    return [" ".join(found[1].split()) for found in _SPAN.finditer(prose(page))]


def links(page: Path) -> list[str]:
    """The targets of a page's links that stay in the repository."""
    found = _LINK.findall(_SPAN.sub("", prose(page)))
    return [target for target in found if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The names by which headings can be linked, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(prose(page)))
    return {title.replace(" ", "-") for title in plain}


def without_comments(block: Block) -> list[str]:
    """The lines of a block without comments, spaces at the end, and empty lines."""
    lines = (re.sub(r"(^|\s)#\s.*$", "", line).rstrip() for line in block.text.splitlines())
    return [line for line in lines if line]


def shell_commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, split into words."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def fledge_words(page: Path) -> Iterator[tuple[str, list[str], bool]]:
    """(where, words after "fledge", whether it is meant to be typed as it stands)."""
    for block in blocks(page):
        if block.kind == "sh":
            for words in shell_commands(block):
                if Path(words[0]).name == "fledge":
                    yield f"{page.name}:{block.line}: {' '.join(words)}", words[1:], True
    for span in spans(page):
        if re.match(r"(\S*/)?fledge [a-z-]", span):
            words = shlex.split(span.replace("…", "..."))
            yield f"{page.name}: {span}", words[1:], False
