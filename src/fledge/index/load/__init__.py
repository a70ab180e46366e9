"""Files, folders, archives, URLs, tables and APIs in; documents with exact places out.

``discover`` says which sources there are and how to tell whether one has changed; ``parse_all``
reads them, hostile formats in processes of their own; ``read`` does both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.index.load.config import Limits as Limits
    from fledge.index.load.config import LoadConfig as LoadConfig
    from fledge.index.load.discovery import discover as discover
    from fledge.index.load.marking import highlight as highlight
    from fledge.index.load.parsing import parse as parse
    from fledge.index.load.reading import parse_all as parse_all
    from fledge.index.load.reading import read as read
    from fledge.index.load.source import Parsed as Parsed
    from fledge.index.load.source import Source as Source
    from fledge.index.load.source import owner as owner

__all__ = [
    "Limits",
    "LoadConfig",
    "Parsed",
    "Source",
    "discover",
    "highlight",
    "owner",
    "parse",
    "parse_all",
    "read",
]

__getattr__ = facade(
    __name__,
    {
        "Limits": "config",
        "LoadConfig": "config",
        "Parsed": "source",
        "Source": "source",
        "discover": "discovery",
        "highlight": "marking",
        "owner": "source",
        "parse": "parsing",
        "parse_all": "reading",
        "read": "reading",
    },
)
