"""Files of texts that belong together in, checked rows out; those for measuring set apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.data.json_rows import read_parsed

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")

FORMS = ({"query", "positive"}, {"anchor", "positive"}, {"en", "zh"})
OPTIONAL = {"negatives", "source"}
KNOWN = sorted({*OPTIONAL, *(key for form in FORMS for key in form)})


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Two texts that belong together.

    ``taught``: for query and positive, the text whose place a teacher shows; None: none.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    source: str = ""
    taught: tuple[str | None, str | None] = (None, None)
    parallel: bool = False


def read_pair_rows(files: Sequence[Path], taught: str = "en") -> list[PairRow]:
    """All rows; raises InputError naming file, line and key of the first that is wrong.

    ``taught`` as in ``EmbedderConfig``.  A row's source is its own, else its file's name.
    """
    rows = []
    for file in files:
        name = file.name.partition(".")[0]

        def parse(value: Any, origin: str, name: str = name) -> Iterator[PairRow]:
            yield parse_row(value, name, taught)

        rows += list(read_parsed(file, "pairs", parse))
    if not rows:
        raise InputError("no pairs to learn from", remedy="name JSONL files of pairs")
    return rows


def parse_row(value: Any, source: str, taught: str = "en") -> PairRow:
    """The row; raises ValueError saying what is wrong with it."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    keys = set(value) - OPTIONAL
    form = next((form for form in FORMS if form == keys), None)
    if form is None:
        for key in sorted(keys - set(KNOWN)):
            raise ValueError(f"unknown key {key!r}; {nearest(key, KNOWN)}")
        raise ValueError(
            f"keys {', '.join(sorted(keys)) or 'none'}; a row has query and positive, or en and zh"
        )
    for key in form:
        if not isinstance(value[key], str) or not value[key].strip():
            raise ValueError(f"{key} is no text")
    negatives = value.get("negatives", [])
    if not isinstance(negatives, list) or not all(
        isinstance(one, str) and one.strip() for one in negatives
    ):
        raise ValueError("negatives is no list of texts")
    source = value.get("source", source)
    if not isinstance(source, str):
        raise ValueError("source is no text")
    parallel = "en" in form
    query = str(value["zh" if parallel else "query" if "query" in form else "anchor"])
    positive = str(value["en" if parallel else "positive"])
    shown = (positive, positive) if parallel else (_read(query, taught), _read(positive, taught))
    return PairRow(
        query=query,
        positive=positive,
        negatives=tuple(negatives),
        source=source,
        taught=shown,
        parallel=parallel,
    )


def _read(text: str, taught: str) -> str | None:
    """The text, when a teacher is to read it."""
    if taught == "none" or (taught == "en" and HAN.search(text)):
        return None
    return text


def set_apart(rows: Sequence[PairRow], share: float) -> tuple[list[PairRow], list[PairRow]]:
    """(trained on, held out): by the digest of a row's positive, so that twins stay together."""
    trained: list[PairRow] = []
    held: list[PairRow] = []
    for row in rows:
        digest = hashlib.sha256(row.positive.encode()).digest()
        (held if int.from_bytes(digest[:4], "big") < share * 2**32 else trained).append(row)
    if not trained:
        raise InputError(f"held_out = {share:g} leaves no pair to learn from", remedy="lower it")
    return trained, held


def by_source(rows: Sequence[PairRow]) -> dict[str, list[int]]:
    """Numbers of the rows of each source, sources in alphabetical order."""
    found: dict[str, list[int]] = {name: [] for name in sorted({row.source for row in rows})}
    for number, row in enumerate(rows):
        found[row.source].append(number)
    return found
