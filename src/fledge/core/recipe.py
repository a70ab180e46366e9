"""A recipe: TOML text and ``--set`` overrides in, one frozen config per stage out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.config import Config, nearest, parse_config
from fledge.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named run: the configs of its stages, in the order of their tables."""

    name: str
    seed: int
    stages: dict[str, Config]
    path: Path | None = None

    def resolved(self) -> dict[str, Any]:
        """Everything spelled out, defaults included, as plain values."""
        tables = {name: config.model_dump(mode="json") for name, config in self.stages.items()}
        return {"name": self.name, "seed": self.seed, **tables}


def load_recipe(
    path: Path, kinds: Mapping[str, type[Config]], overrides: Sequence[str] = ()
) -> Recipe:
    """Read ``path``, apply ``overrides`` ("stage.key=value"), check every table against ``kinds``.

    Raises InputError naming file, key, value and remedy.
    """
    values = _read_toml(path)
    for override in overrides:
        apply_override(values, override)
    name = values.pop("name", path.stem)
    seed = values.pop("seed", 1234)
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name:
        raise InputError(f"{path}: name = {name!r} is not a run name", remedy="use a plain word")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"{path}: seed = {seed!r} is not valid", remedy="use a whole number")
    stages = {table: _stage(path, table, value, kinds, seed) for table, value in values.items()}
    if not stages:
        raise InputError(f"{path} has no stage", remedy=f"add a table: [{'], ['.join(kinds)}]")
    return Recipe(name=name, seed=seed, stages=stages, path=path)


def _stage(
    path: Path, table: str, value: Any, kinds: Mapping[str, type[Config]], seed: int
) -> Config:
    if table not in kinds:
        raise InputError(f"{path}: unknown table [{table}]", remedy=nearest(table, list(kinds)))
    if not isinstance(value, dict):
        raise InputError(f"{path}: {table} = {value!r} is not a table", remedy=f"write [{table}]")
    if "seed" in kinds[table].model_fields:
        value = {"seed": seed, **value}
    return parse_config(kinds[table], value, f"{path}, [{table}]")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"recipe {path} does not exist", remedy="check the path") from None
    except IsADirectoryError:
        raise InputError(f"recipe {path} is a folder", remedy="name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}", remedy="mend the file") from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``stage.key=value`` in place; the value is TOML, or else plain text."""
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise InputError(f"--set {override!r} has no key and value", remedy="write stage.key=value")
    target = values
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise InputError(f"--set {override!r}: {part!r} is not a table", remedy="check the key")
    target[parts[-1]] = toml_value(text.strip())


def toml_value(text: str) -> Any:
    """``text`` read as a TOML value; as it stands when it is none (a path, a word)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
