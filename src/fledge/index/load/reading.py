"""Sources in, what came of each out, in the same order; hostile formats in other processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fledge.core.protocols import Progress, Silent
from fledge.index.load.config import LoadConfig
from fledge.index.load.discover import discover
from fledge.index.load.source import Parsed, Source
from fledge.index.loaded import Loaded, Unreadable


def parse_all(sources: Iterable[Source], config: LoadConfig | None = None) -> Iterator[Parsed]:
    """What came of each source, in order."""
    raise NotImplementedError


def read(
    inputs: Sequence[str], config: LoadConfig | None = None, progress: Progress | None = None
) -> Iterator[Loaded | Unreadable]:
    """All documents that ``inputs`` name, and what cannot be read."""
    raise NotImplementedError
