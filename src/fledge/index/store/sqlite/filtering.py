"""Filters as SQL over the table of facts; values, and names of fields, are bound, never written."""

from __future__ import annotations

import sqlite3

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

Bound = list[str | bytes | int | float]


def documents_of(connection: sqlite3.Connection, where: Filter) -> list[int]:
    """Numbers of the documents that a filter accepts."""
    bound: Bound = []
    query = f"SELECT number FROM documents WHERE {_sql(checked(where), bound)}"
    connection.create_function("fledge_like", 2, _like, deterministic=True)
    return [row[0] for row in connection.execute(query, bound)]


def fact_row(
    field: str, value: Scalar, document: int
) -> tuple[bytes, str, bytes | int | float, int]:
    """A row of the table of facts.  Texts are bytes, whose order is that of the code points."""
    return _bytes(field), value[0], _value(value), document


def _sql(where: Filter, bound: Bound) -> str:
    match where:
        case Not(inner):
            return f"NOT {_sql(inner, bound)}"
        case All(inners):
            return "(" + " AND ".join(["1", *(_sql(inner, bound) for inner in inners)]) + ")"
        case Any(inners):
            return "(" + " OR ".join(["0", *(_sql(inner, bound) for inner in inners)]) + ")"
    return _comparison(where, bound)


def _comparison(where: Compare, bound: Bound) -> str:
    wanted = wanted_of(where)
    by_type: dict[str, list[bytes | int | float]] = {}
    for value in wanted:
        by_type.setdefault(value[0], []).append(_value(value))
    tests = []
    for type_, values in by_type.items():
        bound += [_bytes(where.field), type_, *values]
        if where.op == "like":
            test = "fledge_like(?, value)"
        elif where.op in ("=", "!=", "in"):
            test = f"value IN ({', '.join('?' * len(values))})"
        else:
            test = f"value {where.op} ?"
        tests.append(
            f"number IN (SELECT document FROM facts WHERE field = ? AND type = ? AND {test})"
        )
    joined = "(" + " OR ".join(["0", *tests]) + ")"
    return f"NOT {joined}" if where.op == "!=" else joined


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _value(value: Scalar) -> bytes | int | float:
    return _bytes(value[1]) if isinstance(value[1], str) else value[1]


def _like(glob: bytes, text: bytes) -> bool:
    return like(glob.decode("utf-8", "surrogatepass"), text.decode("utf-8", "surrogatepass"))
