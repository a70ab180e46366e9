"""The body of a PDF object in, what is wrong with how it is written out (ISO 32000-1, 7.2-7.3)."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    rb"(?P<blank>[\x00\t\n\x0c\r ]+|%[^\r\n]*)|(?P<open><<|\[)|(?P<close>>>|\])"
    rb"|(?P<name>/[^\x00\t\n\x0c\r ()<>\[\]{}/%]*)|(?P<hex><[0-9A-Fa-f\x00\t\n\x0c\r ]*>)"
    rb"|(?P<text>\()|(?P<number>[+-]*[0-9.]+(?:-[0-9]+)?)|(?P<reference>R\b)|(?P<word>[A-Za-z]+)"
)
_PAREN = re.compile(rb"\\.|[()]", re.DOTALL)
_ENDS = {b">>": b"<<", b"]": b"["}


def syntax_problem(body: bytes) -> str:
    """The first slip in an object's body, or "".

    Numbers are not looked at closely: some writers put two signs before one, and all readers
    understand it.
    """
    open_: list[bytes] = []
    held: list[list[str]] = [[]]
    """Kinds of the values that each open array or dictionary holds so far, outermost first."""
    position = 0
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            return f"{body[position : position + 12]!r} is no part of an object"
        kind, position = str(token.lastgroup), token.end()
        if kind == "open":
            open_.append(token[0])
            held.append([])
        elif kind == "close":
            if not open_ or open_.pop() != _ENDS[token[0]]:
                return f"{token[0].decode()} closes nothing"
            inside = held.pop()
            if token[0] == b">>" and (slip := _pairs_problem(inside)):
                return slip
            held[-1].append("group")
        elif kind == "reference":
            if held[-1][-2:] != ["number", "number"]:
                return "R refers to nothing"
            held[-1][-2:] = ["reference"]
        elif kind == "text" and (position := _text_end(body, position)) < 0:
            return "a text does not end"
        elif kind != "blank":
            held[-1].append(kind)
    if open_:
        return f"{open_[-1].decode()} is not closed"
    return "it holds more than one value" if len(held[0]) > 1 else ""


def _pairs_problem(inside: list[str]) -> str:
    """What is wrong with a dictionary: it holds keys and values in turn."""
    if len(inside) % 2:
        return "a key has no value"
    return "" if all(kind == "name" for kind in inside[::2]) else "a value stands in a key's place"


def _text_end(body: bytes, position: int) -> int:
    """Where the text that was opened before ``position`` ends; -1: nowhere."""
    depth = 1
    for paren in _PAREN.finditer(body, position):
        depth += {b"(": 1, b")": -1}.get(paren[0], 0)
        if depth == 0:
            return paren.end()
    return -1
