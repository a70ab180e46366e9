"""Filters as people write them: text in, ``Filter`` out.

    lang = zh and date >= 2020 and meta.year in (1999, 2000)
    not (path like "drafts/*" or meta.secret = true)

``and`` binds tighter than ``or``; words may go without quotation marks; a mark inside a quoted
text is doubled.  Bare numbers and true, false are such in metadata, and text in the other fields;
a quoted value is always text.  A field with odd characters is quoted as a whole: "meta.my key".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.index.store.filters import (
    DEEPEST,
    METADATA,
    TEXT_FIELDS,
    All,
    Any,
    Compare,
    Filter,
    Not,
    Op,
    Value,
    checked,
)

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')"""
    r"""|(?P<op><=|>=|!=|=|<|>)|(?P<mark>[(),])|(?P<word>[^\s()<>=!,"']+))"""
)
_NUMBER = re.compile(r"[+-]?(\d+)(\.\d+)?([eE][+-]?\d+)?")
_OPS: dict[str, Op] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_filter(text: str) -> Filter:
    """The filter that ``text`` writes; raises InputError naming the place and what was expected."""
    parser = _Parser(text)
    found = parser.any(0)
    if parser.now.kind != "end":
        parser.fail("expected 'and', 'or' or the end")
    return checked(found)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._scan()
        self.next = 0

    def _scan(self) -> list[_Token]:
        tokens, at = [], 0
        end = len(self.text.rstrip())
        while at < end:
            found = _TOKEN.match(self.text, at)
            if found is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                self.fail(f"cannot read {self.text[at : at + 10]!r}", _Token("odd", "", at))
            kind = str(found.lastgroup)
            tokens.append(_Token(kind, found[kind], found.start(kind)))
            at = found.end()
        return [*tokens, _Token("end", "", end)]

    @property
    def now(self) -> _Token:
        return self.tokens[self.next]

    def fail(self, why: str, token: _Token | None = None) -> NoReturn:
        token = token or self.now
        seen = "the end" if token.kind == "end" else repr(token.text)
        found = "" if token.kind == "odd" else f", found {seen}"
        raise InputError(
            f"filter {self.text!r}, character {token.at + 1}: {why}{found}",
            remedy="write like: lang = zh and meta.year in (1999, 2000)",
        )

    def taken(self, *words: str) -> bool:
        """Whether the next token is one of these words or marks; it is then behind us."""
        now = self.now
        if now.kind in ("word", "mark") and now.text.lower() in words:
            self.next += 1
            return True
        return False

    def any(self, depth: int) -> Filter:
        parts = [self.all(depth)]
        while self.taken("or"):
            parts.append(self.all(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def all(self, depth: int) -> Filter:
        parts = [self.one(depth)]
        while self.taken("and"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def one(self, depth: int) -> Filter:
        if depth > DEEPEST:
            self.fail(f"nested deeper than {DEEPEST}")
        if self.taken("not"):
            return Not(self.one(depth + 1))
        if self.taken("("):
            inner = self.any(depth + 1)
            if not self.taken(")"):
                self.fail("expected ')'")
            return inner
        return self.comparison()

    def comparison(self) -> Filter:
        field = self.field()
        negated = self.taken("not")
        if self.taken("in"):
            found = Compare(field=field, op="in", value=self.values(field))
        elif self.taken("like"):
            found = Compare(field=field, op="like", value=str(self.value("id")))
        elif not negated and self.now.kind == "op":
            op = _OPS[self.now.text]
            self.next += 1
            found = Compare(field=field, op=op, value=self.value(field))
        else:
            self.fail("expected = != < <= > >= in like")
        return Not(found) if negated else found

    def field(self) -> str:
        token = self.now
        if token.kind not in ("word", "quoted"):
            self.fail("expected a field")
        name = _unquoted(token)
        if name not in TEXT_FIELDS and not name.startswith(METADATA):
            known = [*TEXT_FIELDS, f"{METADATA}{name}"]
            self.fail(f"no such field ({nearest(name, known)})")
        self.next += 1
        return name

    def values(self, field: str) -> tuple[Value, ...]:
        if not self.taken("("):
            self.fail("expected '(' and values")
        values = [self.value(field)]
        while self.taken(","):
            values.append(self.value(field))
        if not self.taken(")"):
            self.fail("expected ',' or ')'")
        return tuple(values)

    def value(self, field: str) -> Value:
        token = self.now
        if token.kind not in ("word", "quoted"):
            self.fail("expected a value")
        self.next += 1
        if token.kind == "quoted" or field in TEXT_FIELDS:
            return _unquoted(token)
        if token.text.lower() in ("true", "false"):
            return token.text.lower() == "true"
        number = _NUMBER.fullmatch(token.text)
        if number is None:
            return token.text
        whole = not (number[2] or number[3]) and len(token.text) <= 18
        return int(token.text) if whole else float(token.text)


def _unquoted(token: _Token) -> str:
    if token.kind != "quoted":
        return token.text
    mark = token.text[0]
    return token.text[1:-1].replace(mark * 2, mark)
