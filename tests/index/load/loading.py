"""What the tests of loading share: parse a file, and what must hold for every document."""

from __future__ import annotations

import json
from pathlib import Path

from fledge.index.load.config import LoadConfig
from fledge.index.load.parsing import parse
from fledge.index.load.source import Source
from fledge.index.loaded import Loaded, Unreadable


def source(name: str, content: bytes | Path) -> Source:
    """A source of these bytes, or of a file."""
    if isinstance(content, Path):
        return Source(id=name, path=name, name=name, file=content)
    return Source(id=name, path=name, name=name, content=content)


def load(
    name: str, content: bytes | Path, config: LoadConfig | None = None
) -> list[Loaded | Unreadable]:
    """What comes of a file of this name, checked."""
    items = list(parse(source(name, content), config).items)
    for item in items:
        check(item)
    return items


def load_one(name: str, content: bytes | Path, config: LoadConfig | None = None) -> Loaded:
    """The only document of a file."""
    [item] = load(name, content, config)
    assert isinstance(item, Loaded), item
    return item


def refusal(name: str, content: bytes | Path, config: LoadConfig | None = None) -> Unreadable:
    """Why a file is not read."""
    [item] = load(name, content, config)
    assert isinstance(item, Unreadable), item
    return item


def at_places(loaded: Loaded) -> dict[str, str]:
    """Label of a place -> the text that stands there."""
    text = loaded.document.text
    return {place.label: text[place.start : place.end] for place in loaded.places}


def check(item: Loaded | Unreadable) -> None:
    """What holds for everything a loader gives."""
    assert item.path.isprintable()
    if isinstance(item, Unreadable):
        assert item.reason
        return
    document = item.document
    assert document.text.strip()
    document.text.encode()  # no lone surrogates
    assert "\r" not in document.text
    assert "\0" not in document.text
    assert json.loads(json.dumps(document.metadata, allow_nan=False)) == document.metadata
    before = 0
    for place in item.places:
        assert before <= place.start < place.end <= len(document.text)
        before = place.end
    before = 0
    for box in item.boxes:
        assert before <= box.start < box.end <= len(document.text)
        assert not any(c.isspace() for c in document.text[box.start : box.end])
        assert box.page >= 1
        before = box.end
