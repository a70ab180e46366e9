"""A JSON value and a schema in, what is wrong with the value out.  Pure.

The keywords below; another one is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fledge.core.errors import InputError

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}

SILENT = ("title", "description", "default", "examples", "$schema", "$id")

CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "enum": lambda value, wanted: value in wanted,
    "const": lambda value, wanted: bool(value == wanted),
    "minimum": lambda value, least: not TYPES["number"](value) or value >= least,
    "maximum": lambda value, most: not TYPES["number"](value) or value <= most,
    "minLength": lambda value, least: not isinstance(value, str) or len(value) >= least,
    "maxLength": lambda value, most: not isinstance(value, str) or len(value) <= most,
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda value, most: not isinstance(value, list) or len(value) <= most,
}

PARTS = ("type", "properties", "required", "additionalProperties", "items", "anyOf")


def schema_problem(value: Any, schema: Mapping[str, Any] | bool, where: str = "$") -> str | None:
    """What is wrong with ``value``, naming its place; None when it fits the schema.

    Raises InputError for a keyword that is not known here.
    """
    if isinstance(schema, bool):
        return None if schema else f"{where} may not be there"
    for keyword in schema:
        if keyword not in (*PARTS, *CHECKS, *SILENT):
            known = ", ".join((*PARTS, *CHECKS))
            raise InputError(f"the schema's {keyword!r} is not known", remedy=f"use {known}")
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(TYPES[name](value) for name in types):
        return f"{where} is no {' or '.join(types)}"
    for keyword, check in CHECKS.items():
        if keyword in schema and not check(value, schema[keyword]):
            return f"{where} breaks {keyword} = {schema[keyword]!r}"
    if "anyOf" in schema:
        problems = [schema_problem(value, one, where) for one in schema["anyOf"]]
        if all(problems):
            return problems[0]
    return _inside(value, schema, where)


def _inside(value: Any, schema: Mapping[str, Any], where: str) -> str | None:
    if isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            if problem := schema_problem(item, schema["items"], f"{where}[{place}]"):
                return problem
    if not isinstance(value, dict):
        return None
    for name in schema.get("required", ()):
        if name not in value:
            return f"{where}.{name} is missing"
    known = schema.get("properties", {})
    for name, item in value.items():
        inner = known.get(name, schema.get("additionalProperties", True))
        if problem := schema_problem(item, inner, f"{where}.{name}"):
            return problem
    return None
