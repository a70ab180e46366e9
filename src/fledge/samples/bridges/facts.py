"""Facts about real bridges: ``facts/*.tsv`` in, ``Bridge`` values and spoken forms out."""

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, fill, load_phrases, placeholders

COLUMNS = (
    "id", "name_en", "name_hans", "name_hant", "place_en", "place_hans", "place_hant", "country",
    "crosses_en", "crosses_hans", "crosses_hant", "type", "material", "main_span_m", "length_m",
    "opened",
)  # fmt: skip
_SUFFIX = {"en": "en", "zh-Hans": "hans", "zh-Hant": "hant"}
_OPTIONAL = ("country", "material", "main_span_m", "length_m", "opened")
_BEFORE_CHRIST = {"en": "{} BC", "zh-Hans": "公元前{}", "zh-Hant": "西元前{}"}

# English names that go without an article; every other one is said with 'the'.
_BARE_NAMES = frozenset({
    "Albert Bridge", "Battersea Bridge", "Blackfriars Bridge", "Chelsea Bridge", "Clare Bridge",
    "Hammersmith Bridge", "Kew Bridge", "Lambeth Bridge", "Lendal Bridge", "London Bridge",
    "Magdalen Bridge", "Pulteney Bridge", "Putney Bridge", "Southwark Bridge", "Tower Bridge",
    "Vauxhall Bridge", "Waterloo Bridge", "Westminster Bridge",
})  # fmt: skip
_BARE_WATER_FIRST = ("Lake", "Loch", "Lough", "Port", "Mount", "Hood")
_BARE_WATER_LAST = (
    "Bay", "Harbour", "Harbor", "Creek", "Lake", "Pass", "Inlet", "Sound", "Island", "Brook",
    "Cove", "Gulch", "Gully", "Hollow", "Moss", "Mun", "Port",
)  # fmt: skip
_COUNTRIES_WITH_ARTICLE = frozenset({
    "United States", "United Kingdom", "Netherlands", "Philippines", "Czech Republic",
    "United Arab Emirates", "Dominican Republic", "Democratic Republic of the Congo", "Gambia",
    "Republic of the Congo", "Bahamas", "Maldives", "Solomon Islands", "Faroe Islands",
})  # fmt: skip


@dataclass(frozen=True)
class Bridge:
    """One bridge.  Text is kept per language; None is unknown and never stated."""

    id: str
    names: Mapping[str, str]
    place: Mapping[str, str]
    country: Mapping[str, str] | None
    crosses: Mapping[str, str]
    type: str
    material: str | None
    main_span_m: float | None
    length_m: float | None
    opened: int | None
    """year; negative before Christ"""


def load_bridges(folder: Traversable | None = None) -> list[Bridge]:
    """Every bridge of every table in ``folder`` (default: the shipped ``facts/``), by id.

    Raises ValueError naming file, line, column and value.
    """
    folder = folder or files("fledge.samples.bridges").joinpath("facts")
    countries = _countries(folder)
    tables = sorted(f.name for f in folder.iterdir() if f.name.endswith(".tsv"))
    bridges = [
        _bridge(f"{table}:{line}", row, countries)
        for table in tables
        if table != "countries.tsv"
        for line, row in _rows(folder.joinpath(table), COLUMNS)
    ]
    _refuse_twins(bridges)
    return sorted(bridges, key=lambda bridge: bridge.id)


def known(bridge: Bridge) -> tuple[str, ...]:
    """Attributes of ``bridge`` that the tables know, in the order of ``ATTRIBUTES``."""
    return tuple(a for a in ATTRIBUTES if getattr(bridge, a) is not None)


def value(bridge: Bridge, attribute: str, language: str) -> str | None:
    """Surface form: 'East River', 'suspension bridge', '1280' (units stand in the phrases)."""
    raw = getattr(bridge, attribute)
    if raw is None:
        return None
    if attribute in ("place", "country", "crosses"):
        return str(raw[language])
    if attribute == "type":
        return load_phrases(language).types[raw]
    if attribute == "material":
        return load_phrases(language).materials[raw]
    if raw < 0:
        return _BEFORE_CHRIST[language].format(-raw)
    return str(int(raw)) if raw == int(raw) else str(raw)


def spoken_name(bridge: Bridge, language: str, article: bool = True) -> str:
    """The name inside a sentence: 'the Golden Gate Bridge', 'Tower Bridge', '金门大桥'."""
    name = bridge.names[language]
    if (
        language != "en"
        or not article
        or name in _BARE_NAMES
        or name.lower().startswith(("the ", "de "))
    ):
        return name
    return f"the {name}"


def spoken_value(bridge: Bridge, attribute: str, language: str) -> str | None:
    """The value inside a sentence: 'the United States', 'the East River', '1280'."""
    text = value(bridge, attribute, language)
    if language == "en" and text is not None and _wants_article(attribute, text):
        return f"the {text}"
    return text


def say(
    template: str, bridge: Bridge, language: str, attribute: str = "", article: bool = True
) -> str:
    """``template`` about ``bridge``: {name}, any attribute by its key, {value} of ``attribute``."""
    wanted = placeholders(template)
    fields = {"name": spoken_name(bridge, language, article)}
    for key in wanted - {"name"}:
        text = spoken_value(bridge, attribute if key == "value" else key, language)
        if text is None:
            raise ValueError(f"{bridge.id}: {key} is unknown, but {template!r} states it")
        fields[key] = text
    if language == "en":
        template, fields = _english(template, fields, bridge, attribute)
    return fill(template, language, fields)


def select(bridges: Sequence[Bridge], count: int, seed: int) -> list[Bridge]:
    """``count`` bridges: complete rows first, then spread over countries, then by chance.

    Never two of one name in some language (金门大桥 stands in San Francisco and in Kinmen): a
    question about it would have two answers.
    """
    pool = sorted(bridges, key=lambda bridge: bridge.id)
    random.Random(f"select/{seed}").shuffle(pool)
    pool.sort(key=lambda bridge: -len(known(bridge)))
    met: dict[str, int] = {}
    ranked = []
    for place, bridge in enumerate(pool):
        turn = met[_region(bridge)] = met.get(_region(bridge), 0) + 1
        ranked.append((len(ATTRIBUTES) - len(known(bridge)), turn, place, bridge))
    ranked.sort(key=lambda entry: entry[:3])
    chosen = _without_namesakes([entry[3] for entry in ranked])[:count]
    if len(chosen) < count:
        raise ValueError(f"{count} bridges were asked for, {len(chosen)} have names of their own")
    return sorted(chosen, key=lambda bridge: bridge.id)


def _region(bridge: Bridge) -> str:
    """What bridges are spread over: the country, or the place of one whose country is not said."""
    return (bridge.country or bridge.place)["en"]


def split(bridges: Sequence[Bridge], seed: int) -> tuple[list[Bridge], list[Bridge]]:
    """(taught, held): conversations may state facts of the first half, never of the second.

    Bridges of which one's texts hold the other's name stay on one side, so that no held name can
    be read inside a taught fact.
    """
    groups = _name_groups(sorted(bridges, key=lambda bridge: bridge.id))
    random.Random(f"split/{seed}").shuffle(groups)
    groups.sort(key=lambda group: (-len(group), _region(group[0])))
    taught: list[Bridge] = []
    held: list[Bridge] = []
    for group in groups:
        (taught if len(taught) <= len(held) else held).extend(group)
    return sorted(taught, key=lambda b: b.id), sorted(held, key=lambda b: b.id)


def strangers(every: Sequence[Bridge], world: Sequence[Bridge]) -> list[Bridge]:
    """Bridges of ``every`` that no text of ``world`` names, nor is named like one of it."""
    names = {name.lower() for bridge in world for name in bridge.names.values()}
    chosen = {bridge.id for bridge in world}
    own = [bridge for bridge in every if bridge.id not in chosen]
    return [
        bridge
        for bridge in _without_namesakes(own)
        if not any(one.lower() in name or name in one.lower()
                   for one in bridge.names.values() for name in names)
    ]  # fmt: skip


def _without_namesakes(bridges: Sequence[Bridge]) -> list[Bridge]:
    """``bridges`` in order, without those that share a name with an earlier one."""
    names: set[str] = set()
    kept = []
    for bridge in bridges:
        own = {name.lower() for name in bridge.names.values()}
        if not own & names:
            kept.append(bridge)
        names |= own
    return kept


def _wants_article(attribute: str, text: str) -> bool:
    """Whether English says 'the' before this value."""
    if attribute == "country":
        return text in _COUNTRIES_WITH_ARTICLE
    if attribute != "crosses" or text.lower().startswith("the "):
        return False
    words = text.split()
    return words[0] not in _BARE_WATER_FIRST and words[-1] not in _BARE_WATER_LAST


def _english(
    template: str, fields: dict[str, str], bridge: Bridge, attribute: str
) -> tuple[str, dict[str, str]]:
    """English details: 'on' an island, no article in 'Seattle, United States'."""
    if bridge.place["en"].endswith("Island"):
        slot = "{value}" if attribute == "place" else "{place}"
        template = template.replace(f"in {slot}", f"on {slot}")
    if ", {country}" in template:
        fields = fields | {"country": str(value(bridge, "country", "en"))}
    return template, fields


def _rows(file: Traversable, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, cells) of a table whose header must be ``columns``."""
    lines = list(csv.reader(file.read_text("utf-8").splitlines(), delimiter="\t", quotechar=None,
                            quoting=csv.QUOTE_NONE))  # fmt: skip
    if not lines or tuple(lines[0]) != tuple(columns):
        raise ValueError(f"{file.name}: the first line must hold the columns {' '.join(columns)}")
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(columns):
            raise ValueError(f"{file.name}:{number}: {len(cells)} cells, {len(columns)} wanted")
        rows.append((number, dict(zip(columns, (cell.strip() for cell in cells), strict=True))))
    return rows


def _countries(folder: Traversable) -> dict[str, dict[str, str]]:
    """Country code -> name per language."""
    file = folder.joinpath("countries.tsv")
    if not file.is_file():
        raise ValueError("countries.tsv: is missing beside the fact tables")
    rows = _rows(file, ("code", "en", "hans", "hant"))
    return {row["code"]: {lang: _bare(row[_SUFFIX[lang]]) for lang in LANGUAGES} for _, row in rows}


def _bare(name: str) -> str:
    """A country without its English article."""
    return name[4:] if name.lower().startswith("the ") else name


def _bridge(where: str, row: dict[str, str], countries: dict[str, dict[str, str]]) -> Bridge:
    """One checked row."""
    for column in COLUMNS:
        if not row[column] and column not in _OPTIONAL:
            raise ValueError(f"{where}: {column} is empty")
    phrases = load_phrases("en")
    if row["country"]:
        _one_of(where, "country", row["country"], countries)
    _one_of(where, "type", row["type"], phrases.types)
    if row["material"]:
        _one_of(where, "material", row["material"], phrases.materials)
    span, length = (_number(where, column, row[column]) for column in ("main_span_m", "length_m"))
    if span is not None and length is not None and span > length:
        raise ValueError(f"{where}: main_span_m {span} is greater than length_m {length}")
    opened = _number(where, "opened", row["opened"])
    return Bridge(
        id=row["id"],
        names=_texts(row, "name"),
        place=_texts(row, "place"),
        country=countries.get(row["country"]),
        crosses=_texts(row, "crosses"),
        type=row["type"],
        material=row["material"] or None,
        main_span_m=span,
        length_m=length,
        opened=None if opened is None else int(opened),
    )


def _texts(row: dict[str, str], column: str) -> dict[str, str]:
    """The three languages of one column."""
    return {language: row[f"{column}_{suffix}"] for language, suffix in _SUFFIX.items()}


def _one_of(where: str, column: str, cell: str, allowed: Mapping[str, object]) -> None:
    """Refuses a cell that is no key of ``allowed``."""
    if cell not in allowed:
        raise ValueError(f"{where}: {column} {cell!r} is not one of {', '.join(allowed)}")


def _number(where: str, column: str, cell: str) -> float | None:
    """A cell of digits, or None when empty.  Only a year may be negative."""
    if not cell:
        return None
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"{where}: {column} {cell!r} is not a number") from None
    if number == 0 or (number < 0 and column != "opened"):
        raise ValueError(f"{where}: {column} {cell!r} must be greater than zero")
    return number


def _refuse_twins(bridges: Sequence[Bridge]) -> None:
    """Refuses an id that two rows share."""
    met: set[str] = set()
    for bridge in bridges:
        if bridge.id in met:
            raise ValueError(f"facts: id {bridge.id!r} stands in two rows; rename one")
        met.add(bridge.id)


def _name_groups(bridges: list[Bridge]) -> list[list[Bridge]]:
    """Groups closed under 'the name of one is inside the name of another'."""
    groups: list[list[Bridge]] = []
    for bridge in bridges:
        near = [group for group in groups if any(_overlap(bridge, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([other for group in near for other in group] + [bridge])
    return groups


def _overlap(one: Bridge, two: Bridge) -> bool:
    """Whether a name of one is read inside a name, place or crossing of the other."""
    return _inside(one, two) or _inside(two, one)


def _inside(one: Bridge, two: Bridge) -> bool:
    """Whether ``two``'s texts hold a name of ``one``."""
    texts = [*two.names.values(), *two.place.values(), *two.crosses.values()]
    return any(name.lower() in text.lower() for name in one.names.values() for text in texts)
