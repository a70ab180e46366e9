"""Configs: frozen, checked once at the edge; errors name the key and the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from fledge.core.errors import InputError

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of every stage's config: keyword-only, frozen, no unknown keys.

    A field's docstring (the string below it) is its documentation.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )
    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not decide the result: changing one does not make a stage run again."""


def nearest(word: str, known: list[str]) -> str:
    """Advice naming the known word closest to ``word``, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def parse_config(kind: type[ConfigT], values: dict[str, Any], where: str) -> ConfigT:
    """``values`` as a ``kind``; raises InputError naming ``where``, key, value and remedy."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explain(kind, error, where) from None


def _explain(kind: type[Config], error: ValidationError, where: str) -> InputError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # a rule over several keys
        return InputError(f"{where}: {message}")
    if first["type"] == "extra_forbidden":
        return InputError(
            f"{where}: unknown key {key!r}",
            remedy=nearest(str(first["loc"][-1]), _known(kind, first["loc"][:-1])),
        )
    if first["type"] == "missing":
        return InputError(f"{where}: {key!r} is required", remedy=f"set {key} = … in the recipe")
    return InputError(f"{where}: {key} = {first['input']!r} is not valid", remedy=message)


def _known(kind: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Keys of the table at ``path`` inside ``kind``."""
    for part in path:
        field = kind.model_fields.get(str(part))
        inner = inner_config(field.annotation) if field else None
        if inner is None:
            break
        kind = inner
    return list(kind.model_fields)


def inner_config(annotation: Any) -> type[BaseModel] | None:
    """The config that a field holds, always or at times (``Inner | None``); None for others."""
    union = get_origin(annotation) in (Union, UnionType)
    for kind in get_args(annotation) if union else (annotation,):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
