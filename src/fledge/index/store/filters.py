"""A filter over documents, as data: a store turns it into its own language, escaped.

Fields are "path", "date", "lang", "source", "kind" and those of the metadata ("meta.year").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Compare:
    """``field op value``; "in" takes a tuple, "like" is a glob with * and ?."""

    field: str
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "like"]
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
