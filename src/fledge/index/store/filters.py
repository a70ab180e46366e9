"""A filter over documents, as data: a store turns it into its own language, escaped.

Fields are "id", "path", "url", "date", "lang", "source", "kind" and those of the metadata:
"meta.year"; "meta.author.name" reaches into an object.  A field may hold several values (a list
in the metadata): a comparison accepts a document when one of them does.

Texts compare with texts (by code points), numbers with numbers, true and false with themselves;
a document without the field, or with another type in it, is not accepted.  "!=" accepts exactly
what "=" does not, documents without the field included.  ``accepts`` below is this meaning in
Python; every store is tested against it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any as Anything
from typing import Literal

from fledge.core.errors import InputError
from fledge.core.types import Document

Value = str | int | float | bool
Op = Literal["=", "!=", "<", "<=", ">", ">=", "in", "like"]

TEXT_FIELDS = ("id", "path", "url", "date", "lang", "source", "kind")
METADATA = "meta."

DEEPEST = 50
"""Filters inside filters, at most."""
BROADEST = 500
"""Comparisons in a filter, at most."""
WIDEST = 10_000
"""Values that a filter compares with, at most."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """``field op value``; "in" takes a tuple, "like" is a glob with * and ?."""

    field: str
    op: Op
    value: Value | tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    """What the filter inside does not accept."""

    inner: Filter


@dataclass(frozen=True)
class All:
    """What every filter inside accepts."""

    inner: tuple[Filter, ...]


@dataclass(frozen=True)
class Any:
    """What some filter inside accepts."""

    inner: tuple[Filter, ...]


Filter = Compare | Not | All | Any

Scalar = tuple[Literal["text", "number", "truth"], str | int | float]
"""A value with its type; the types do not mix."""

_ORDERS: dict[str, Callable[[Anything, Anything], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_INT64 = 2**63


def scalar(value: object) -> Scalar | None:
    """A comparable value with its type; None for what cannot be compared (null, NaN, objects)."""
    if isinstance(value, bool):
        return "truth", int(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return "number", value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return ("number", number) if math.isfinite(number) else None
    return ("text", value) if isinstance(value, str) else None


def fields_of(document: Document, path: str, kind: str) -> dict[str, list[Scalar]]:
    """Every field that filters may ask for, with its values."""
    plain = {
        "id": document.id,
        "path": path,
        "url": document.url,
        "date": document.date,
        "lang": document.lang,
        "source": document.source,
        "kind": kind,
    }
    fields: dict[str, list[Scalar]] = {
        name: [("text", value)] for name, value in plain.items() if value
    }
    for name, value in _flat(document.metadata, METADATA.rstrip(".")):
        values = fields.setdefault(name, [])
        if value not in values:
            values.append(value)
    return fields


def _flat(value: object, name: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner, name)
    else:
        found = scalar(value)
        if found is not None:
            yield name, found


def accepts(where: Filter, fields: Mapping[str, list[Scalar]]) -> bool:
    """Whether a filter accepts a document with these fields."""
    match where:
        case Not(inner):
            return not accepts(inner, fields)
        case All(inners):
            return all(accepts(inner, fields) for inner in inners)
        case Any(inners):
            return any(accepts(inner, fields) for inner in inners)
    values = fields.get(where.field, [])
    wanted = wanted_of(where)
    if where.op == "!=":
        return wanted[0] not in values
    if where.op == "in":
        return any(value in wanted for value in values)
    kind, target = wanted[0]
    if where.op == "like":
        return any(k == kind and like(str(target), str(value)) for k, value in values)
    order = _ORDERS[where.op]
    return any(k == kind and order(value, target) for k, value in values)


def wanted_of(where: Compare) -> list[Scalar]:
    """The values a comparison compares with, typed; for all but "in" there is one."""
    given = where.value if isinstance(where.value, tuple) else (where.value,)
    wanted = [scalar(value) for value in given]
    if None in wanted:
        raise InputError(
            f"{where.field} {where.op} {where.value!r}: not a value to compare with",
            remedy="compare with a text, a finite number, true or false",
        )
    return [value for value in wanted if value is not None]


def checked(where: Filter) -> Filter:
    """The filter itself; raises InputError, naming the comparison, for one that means nothing."""
    comparisons = values = 0
    stack: list[tuple[Filter, int]] = [(where, 1)]
    while stack:
        filter_, depth = stack.pop()
        if isinstance(filter_, Compare):
            _check(filter_)
            comparisons += 1
            values += len(filter_.value) if isinstance(filter_.value, tuple) else 1
        else:
            inner = (filter_.inner,) if isinstance(filter_, Not) else filter_.inner
            stack.extend((each, depth + 1) for each in inner)
        if depth > DEEPEST or comparisons > BROADEST or values > WIDEST:
            raise InputError(
                f"the filter is nested deeper than {DEEPEST}, or has more than {BROADEST}"
                f" comparisons or {WIDEST:,} values",
                remedy="search without it and sift the hits, or mark documents in their metadata",
            )
    return where


def _check(where: Compare) -> None:
    shown = f"{where.field} {where.op} {where.value!r}"
    if where.field not in TEXT_FIELDS and not where.field.startswith(METADATA):
        raise InputError(
            f"the filter {shown} asks for a field there is not",
            remedy=f"known: {', '.join(TEXT_FIELDS)} and {METADATA}NAME",
        )
    if where.op not in (*_ORDERS, "!=", "in", "like"):
        raise InputError(f"the filter {shown} has an operator there is not", remedy="see the docs")
    if isinstance(where.value, tuple) != (where.op == "in"):
        raise InputError(f"the filter {shown}: 'in', and only 'in', takes a tuple of values")
    wanted = wanted_of(where)
    if where.op == "like" and wanted[0][0] != "text":
        raise InputError(f"the filter {shown}: 'like' takes a text with * and ?")
    if wanted and wanted[0][0] == "truth" and where.op in ("<", "<=", ">", ">="):
        raise InputError(f"the filter {shown}: true and false have no order", remedy="use =")


def like(glob: str, text: str) -> bool:
    """Whether the whole text matches a glob: * any run of characters, ? any one character."""
    return _pattern(glob).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    """The glob as a regular expression; atomic groups keep "*a*a*a*b" from taking for ever."""
    fixed = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", glob)]
    first, *rest = fixed
    if rest:
        first += "".join(f"(?>.*?{part})" for part in rest[:-1]) + f".*{rest[-1]}"
    return re.compile(first, re.DOTALL)
