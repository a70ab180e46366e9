"""Filters as SQL over the table of facts; every value is bound."""

from __future__ import annotations

from decimal import Decimal
from typing import Any as Anything

from fledge.index.store.filters import (
    All,
    Any,
    Compare,
    Filter,
    Not,
    Scalar,
    checked,
    like,
    wanted_of,
)
from fledge.index.store.postgres.schema import from_bytes, to_bytes

Bound = list[Anything]


def condition(connection: Anything, where: Filter) -> tuple[str, Bound]:
    """SQL that is true for the documents, as ``d.number``, that a filter accepts; its values."""
    bound: Bound = []
    return _sql(connection, checked(where), bound), bound


def fact_row(document: int, field: str, value: Scalar) -> tuple[Anything, ...]:
    """A row of the table of facts."""
    content, number = _value(value)
    return document, to_bytes(field), value[0], content, number


def _sql(connection: Anything, where: Filter, bound: Bound) -> str:
    match where:
        case Not(inner):
            return f"NOT {_sql(connection, inner, bound)}"
        case All(inners):
            parts = [_sql(connection, inner, bound) for inner in inners]
            return "(" + " AND ".join(["TRUE", *parts]) + ")"
        case Any(inners):
            parts = [_sql(connection, inner, bound) for inner in inners]
            return "(" + " OR ".join(["FALSE", *parts]) + ")"
    return _comparison(connection, where, bound)


def _comparison(connection: Anything, where: Compare, bound: Bound) -> str:
    by_type: dict[str, list[Anything]] = {}
    for value in wanted_of(where):
        content, number = _value(value)
        by_type.setdefault(value[0], []).append(number if content is None else content)
    if where.op == "like":
        by_type = {"text": _matching(connection, where.field, str(where.value))}
    tests = ["FALSE"]
    for type_, values in by_type.items():
        column = "content" if type_ == "text" else "number"
        kind = "bytea" if type_ == "text" else "numeric"
        test = f"{column} = ANY(%s::{kind}[])"
        if where.op in ("<", "<=", ">", ">="):
            test, values = f"{column} {where.op} %s::{kind}", values[0]
        bound += [to_bytes(where.field), type_, values]
        tests.append(
            f"d.number IN (SELECT document FROM facts WHERE field = %s AND type = %s AND {test})"
        )
    joined = "(" + " OR ".join(tests) + ")"
    return f"NOT {joined}" if where.op == "!=" else joined


def _matching(connection: Anything, field: str, glob: str) -> list[bytes]:
    """Values of a field that a glob matches: the server's LIKE would read bytes, not characters."""
    query = "SELECT DISTINCT content FROM facts WHERE field = %s AND type = 'text'"
    rows = connection.execute(query, (to_bytes(field),)).fetchall()
    return [row[0] for row in rows if like(glob, from_bytes(row[0]))]


def _value(value: Scalar) -> tuple[bytes | None, Decimal | None]:
    """(text, number): numbers are exact decimals, so that large ones compare as in Python."""
    if isinstance(value[1], str):
        return to_bytes(value[1]), None
    return None, Decimal(value[1])
