"""Elements of a page, escaped by construction: plain strings are text, only ``Html`` is markup."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence

VOID = frozenset({"br", "meta", "line", "rect", "circle", "path", "polyline"})
"""Elements that hold nothing (the SVG shapes only when they have no title)."""


class Html(str):
    """Markup that is safe to put in a page as it stands."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]
Attribute = str | int | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """``<name attributes>children</name>``; ``class_`` and ``data_x`` mean class and data-x.

    An attribute that is None or False is left out, one that is True has no value.
    """
    start = name + "".join(_attribute(key, value) for key, value in attributes.items())
    inner = join(*children)
    if not inner and name in VOID:
        return Html(f"<{start}/>")
    return Html(f"<{start}>{inner}</{name}>")


def join(*children: Child) -> Html:
    """Children one after the other, text escaped."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            parts.append(child if isinstance(child, Html) else _text(child))
        elif isinstance(child, int | float):
            parts.append(str(child))
        else:
            parts.append(join(*child))
    return Html("".join(parts))


class Number(str):
    """The head of a column of numbers."""

    __slots__ = ()


def table(
    heads: Sequence[Child], rows: Iterable[Sequence[Child]], *, class_: str | None = None
) -> Html:
    """A table that scrolls when it is too wide; columns headed by a ``Number`` align right."""
    sides = ["number" if isinstance(head, Number) else None for head in heads]
    head = [
        element("th", title, class_=side, scope="col")
        for title, side in zip(heads, sides, strict=True)
    ]
    body = [
        element("tr", [element("td", c, class_=s) for c, s in zip(row, sides, strict=True)])
        for row in rows
    ]
    whole = element("table", element("thead", element("tr", head)), element("tbody", body))
    return element("div", whole, class_=f"scroll {class_}" if class_ else "scroll")


def term(english: Child, chinese: str) -> Html:
    """A term in English, and small beside it in Chinese."""
    if not chinese:
        return join(english)
    return join(english, " ", element("span", chinese, lang="zh-Hans", class_="zh"))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_text(str(value))}"'


def _text(text: str) -> str:
    """Escaped text; what HTML forbids or would turn the line around becomes U+FFFD."""
    return html.escape("".join("\ufffd" if _forbidden(c) else c for c in text), quote=True)


def _forbidden(character: str) -> bool:
    if character in "\n\t\r":
        return False
    bidirectional = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return bidirectional or unicodedata.category(character) in ("Cc", "Cs")
