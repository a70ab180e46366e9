"""Config of an index: what goes in, how it is cut and embedded, where it lies."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from fledge.core.config import Config
from fledge.core.files import value_digest
from fledge.data.config import Strings
from fledge.index.load.config import LoadConfig
from fledge.index.split.config import SplitConfig


class IndexConfig(Config):
    """Config of an index."""

    input: Strings = Field(min_length=1)
    """Files, folders, globs, archives and URLs; see loading."""

    load: LoadConfig = LoadConfig()
    """What is read and what is refused."""

    split: SplitConfig = SplitConfig()
    """How documents are cut into chunks."""

    embedder: str = "bilingual"
    """What makes vectors of chunks: "bilingual" (ships with fledge: English, Chinese), "minilm", a
    folder, a URL; "none": found by words only."""

    store: str = "sqlite"
    """sqlite: one file.  lance: beyond 100,000 chunks.  postgresql://…: a server."""

    def reading(self) -> str:
        """A short digest of what decides how a file's text comes out: part of fingerprints."""
        load = self.load.model_dump(mode="json", exclude={"limits", "workers"})
        return value_digest({"load": load})[:12]


def settings_of(config: IndexConfig, embedder: Any) -> dict[str, Any]:
    """What all documents of an index must share, as the store keeps it."""
    from fledge.index.split import VERSION as SPLITTER
    from fledge.index.terms import VERSION as TERMS

    return {
        "split": config.split.model_dump(mode="json"),
        "splitter": SPLITTER,
        "terms": TERMS,
        "embedder": {
            "spec": config.embedder,
            "name": embedder.name,
            "revision": embedder.revision,
            "dimensions": embedder.dimensions,
        },
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What keeps documents made with ``new`` settings out of an index of ``old`` ones."""
    found = []
    if old.get("terms") != new["terms"]:
        found.append(f"terms of version {old.get('terms')}, now {new['terms']}")
    if old.get("splitter") != new["splitter"]:
        found.append(f"a splitter of version {old.get('splitter')}, now {new['splitter']}")
    before = old.get("split", {})
    for key, value in new["split"].items():
        if before.get(key) != value:
            found.append(f"split.{key} = {before.get(key)!r}, now {value!r}")
    was, now = old.get("embedder", {}), new["embedder"]
    if (was.get("revision"), was.get("dimensions")) != (now["revision"], now["dimensions"]):
        found.append(
            f"the embedder {was.get('name')!r} ({was.get('revision')}),"
            f" now {now['name']!r} ({now['revision']})"
        )
    return found
