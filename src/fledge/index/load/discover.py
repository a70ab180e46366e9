"""What the user names to the sources there are, in order of their ids; nothing is parsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fledge.index.load.config import LoadConfig
from fledge.index.load.source import Source
from fledge.index.loaded import Unreadable


def discover(
    inputs: Sequence[str], config: LoadConfig | None = None, *, leave_out: Sequence[Path] = ()
) -> Iterator[Source | Unreadable]:
    """Every source that ``inputs`` name, and what is not read, with the reason.

    An input is a file, folder, glob, ``http(s)://`` URL, ``sqlite:///`` or ``postgresql://`` URL
    with ``query``, ``id`` and ``text``, or a ``.api.toml`` file that maps an HTTP API.  What is in
    ``leave_out`` (the index itself) is passed over.  Raises InputError for an input that names
    nothing.
    """
    raise NotImplementedError
