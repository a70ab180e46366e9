"""A folder of weights in, a name of their contents out; large files are read once a machine."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from fledge.core.files import file_digest, files_below, value_digest, write_json
from fledge.core.home import home_folder

KINDS = (".safetensors", ".json", ".txt", ".model")
"""Files that decide the vectors."""
IGNORED = ("languages.json",)


def folder_revision(folder: Path) -> str:
    """The first 16 hex digits of SHA-256 over the files of ``folder`` that decide its vectors."""
    files = [
        path
        for path in files_below(folder)
        if path.suffix in KINDS and path.name not in IGNORED and not path.name.startswith(".")
    ]
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    return value_digest(digests)[:16]


def _digest(path: Path) -> str:
    """SHA-256 of a file, remembered while its size, time and place on the disk are the same."""
    state = path.stat()
    if state.st_size < 1 << 20:
        return file_digest(path)
    mark = (
        f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ctime_ns}|{state.st_ino}"
    )
    memory = home_folder() / "digests.json"
    known = _read(memory)
    if mark not in known:
        known = {**_read(memory), mark: file_digest(path)}
        with suppress(OSError):  # a home that cannot be written costs a fraction of a second
            write_json(memory, dict(list(known.items())[-100:]))
    return known[mark]


def _read(memory: Path) -> dict[str, str]:
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
