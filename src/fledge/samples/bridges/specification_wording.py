"""How the specification speaks: templates, labels and units of one language from ``spec/``."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fledge.samples.bridges.phrases import LANGUAGES
from fledge.samples.bridges.specification_graph import Entity

_PHRASE_FILES = {"en": "en.toml", "zh-Hans": "zh_hans.toml", "zh-Hant": "zh_hant.toml"}
_PROPERTY_UNITS = {"elastic_modulus": "GPa", "density": "kg_m3", "max_span": "m", "max_height": "m"}


@dataclass(frozen=True)
class Words:
    """The wordings of one language."""

    language: str
    texts: Mapping[str, tuple[str, ...]]
    """templates of titles and openers"""
    labels: Mapping[str, str]
    units: Mapping[str, str]
    facts: Mapping[str, Mapping[str, tuple[str, ...]]]
    """wording -> use (statement, inverse, chat, exam, answer) -> templates"""

    def join(self, names: Sequence[str]) -> str:
        """'A, B and C' in this language."""
        (joint,), (last,) = self.texts["list_joint"], self.texts["list_last"]
        return last.join([*([joint.join(names[:-1])] if names[1:] else []), names[-1]])

    def paragraph(self, sentences: Iterable[str]) -> str:
        """Sentences one after another."""
        return (" " if self.language == "en" else "").join(sentences)

    def mention(self, entity: Entity) -> str:
        """The name inside a sentence: 'the T-beam', 'C40 concrete', 'T梁'."""
        bare = self.language != "en" or entity.kind == "Material"
        return entity.name[self.language] if bare else f"the {entity.name[self.language]}"


@cache
def load_words(language: str) -> Words:
    """The wordings of ``language``.  Raises ValueError for an unknown one."""
    if language not in _PHRASE_FILES:
        raise ValueError(f"language {language!r} is unknown; use one of {', '.join(LANGUAGES)}")
    table = read_toml(shipped(), _PHRASE_FILES[language])
    tables = {key: table.pop(key) for key in ("labels", "units", "facts")}
    texts = {key: (v,) if isinstance(v, str) else tuple(v) for key, v in table.items()}
    facts = {w: {use: tuple(t) for use, t in f.items()} for w, f in tables["facts"].items()}
    return Words(language, texts, tables["labels"], tables["units"], facts)


def spoken_value(entity: Entity, key: str, language: str) -> str:
    """A property with its unit: '40 mm', '1/600 of the span', 'C30'."""
    raw = entity.properties[key]
    number = raw if isinstance(raw, str) else f"{raw:g}"
    if key == "clause":
        return number
    unit = entity.properties.get("unit", "none") if key == "value" else _property_unit(key)
    return load_words(language).units[str(unit)].format(number)


def _property_unit(key: str) -> str:
    """Unit of a material's, beam's or pier's property; strengths are in MPa."""
    return _PROPERTY_UNITS.get(key, "MPa")


def shipped() -> Traversable:
    """The folder ``spec/`` of this package."""
    return files("fledge.samples.bridges").joinpath("spec")


def read_toml(folder: Traversable, name: str) -> dict[str, Any]:
    """The table in ``folder/name``.  Raises ValueError where it is missing or malformed."""
    file = folder.joinpath(name)
    if not file.is_file():
        raise ValueError(f"{name}: is missing in {folder}")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name}: {error}") from error
