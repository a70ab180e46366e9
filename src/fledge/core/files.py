"""Files written whole or not at all: JSON, JSONL, digests, atomic replacement."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place, synced, when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically; keys keep their order."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file; raises InputError naming file and position."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", remedy="check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}", remedy="mend the file") from None


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON value a line, atomically; returns the number of lines."""
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[Any]:
    """The values of a JSONL file; raises InputError naming file and line."""
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield _parse_line(path, number, line)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", remedy="check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", remedy="re-encode the file") from None


def _parse_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not valid JSON: {error.msg}", remedy="mend the line"
        ) from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256, in hex, of a JSON value with sorted keys: equal values, equal digests."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by their relative POSIX path."""
    found = [path for path in folder.rglob("*") if path.is_file() and not is_leftover(path)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def is_leftover(path: Path) -> bool:
    """Whether a file is what a killed ``replacing`` left behind."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove_leftovers(folder: Path) -> None:
    """Delete what killed ``replacing`` blocks left below ``folder``."""
    for path in [path for path in folder.rglob(".*.tmp") if is_leftover(path)]:
        path.unlink(missing_ok=True)


def replace_folder(new: Path, final: Path) -> None:
    """Put folder ``new`` in the place of ``final``; a former ``final`` is removed afterwards.

    ``restore_folder`` mends what a kill between the two renames left.
    """
    restore_folder(final)
    if final.exists():
        os.replace(final, _former(final))
    os.replace(new, final)
    sync_folder(final.parent)
    restore_folder(final)


def restore_folder(final: Path) -> None:
    """Finish a killed ``replace_folder``: the former folder comes back, or goes for good."""
    old = _former(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, final)


def _former(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_below(folder: Path) -> None:
    """Make all files below ``folder``, and their names, survive a power cut."""
    for path in files_below(folder):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(path)
