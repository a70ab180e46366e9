"""A source in, its documents out, or why it cannot be read; in this process."""

from __future__ import annotations

from fledge.index.load.config import LoadConfig
from fledge.index.load.source import Parsed, Source


def parse(source: Source, config: LoadConfig | None = None) -> Parsed:
    """The documents of a source.

    Raises nothing for a file's fault.  A parser written in C that a hostile file brings down
    takes this process with it: ``parse_all`` does not.
    """
    raise NotImplementedError
