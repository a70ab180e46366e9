"""What the user names (paths, folders, globs) to the files that are read, and what is left out."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.core.run import KEY, MANIFEST
from fledge.data.formats import READ, suffix

_LEGAL = ("LICENSE", "LICENCE", "COPYING", "NOTICE")
_REPORT = "report.html"


@dataclass
class Scan:
    """The files to read, sorted, each once; and how many others there are, by extension."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def expand_inputs(inputs: Sequence[Path | str]) -> list[Path]:
    """The files that ``inputs`` name, sorted, each once; raises InputError when one names none."""
    return scan_inputs(inputs).files


def scan_inputs(inputs: Sequence[Path | str], out: Path | None = None) -> Scan:
    """The files that ``inputs`` name and the files of unknown kind below the folders named.

    Several names of one file (links) count as one.  Below a folder nothing is taken that fledge
    wrote itself (nor what is in ``out``), nor hidden files, nor licences.  Raises InputError when
    an input names no file.
    """
    found: dict[str, Path] = {}
    others: set[Path] = set()
    for item in inputs:
        for path in _expand(str(item), others):
            found.setdefault(str(path), path)
    files: dict[Path, Path] = {}
    for key in sorted(found):
        files.setdefault(found[key].resolve(), found[key])
    if out is not None:
        place = out.resolve()
        files = {path: files[path] for path in files if not path.is_relative_to(place)}
        others = {path for path in others if not path.resolve().is_relative_to(place)}
    kinds = Counter(path.suffix.lower() or "(no extension)" for path in others)
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return Scan(files=list(files.values()), left_out=dict(ranked))


def _expand(item: str, others: set[Path]) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = _readable(path, others)
        if not files:
            raise InputError(
                f"{item} holds no file that can be read",
                remedy=f"put pages there: {', '.join(sorted(READ))}",
            )
        return files
    files = []
    for match in _matches(path):
        files += _readable(match, others) if match.is_dir() else [match]
    if not files:
        raise InputError(f"input {item!r} matches no file", remedy="check the path or the pattern")
    return files


def _matches(pattern: Path) -> Iterator[Path]:
    """Paths that match; what ``**`` finds in fledge's own results is not meant."""
    parts = pattern.parts
    base = Path(*parts[: parts.index("**")]) if "**" in parts else None
    results: dict[Path, bool] = {}
    for match in map(Path, glob.glob(str(pattern), recursive=True)):
        above: list[Path] = []
        if base is not None:
            above = [Path(base, *match.relative_to(base).parts[:n]) for n in _depths(match, base)]
        for folder in above:
            if folder not in results:
                results[folder] = folder.is_dir() and is_result(folder)
        own = any(results[folder] for folder in above)
        if match.exists() and not own and not (base is not None and _is_report(match)):
            yield match


def _depths(match: Path, base: Path) -> range:
    return range(1, len(match.relative_to(base).parts) + 1)


def _readable(folder: Path, others: set[Path]) -> list[Path]:
    """The files below ``folder`` that are read; those of unknown kind go into ``others``."""
    files = []
    for name, folders, names in os.walk(folder):
        place = Path(name)
        folders[:] = [child for child in folders if not _is_closed(place / child)]
        for file in (place / name for name in names if not name.startswith(".")):
            if file.name.upper().startswith(_LEGAL) or file.name.endswith(".partial"):
                continue
            if not file.is_file() or _is_report(file):
                continue
            if suffix(file.name) in READ:
                files.append(file)
            else:
                others.add(file)
    return files


def _is_closed(folder: Path) -> bool:
    """Whether the walk does not go into a folder: it is hidden, or a result of fledge."""
    return folder.name.startswith(".") or is_result(folder)


def is_result(folder: Path) -> bool:
    """Whether fledge wrote ``folder``: a stage, finished or not.

    A corpus built of ``.`` must not read what it, or a stage after it, wrote there.
    """
    if folder.name.endswith(".partial") or (folder / KEY).is_file():
        return True
    path = folder / MANIFEST  # the name is common on the web: look inside
    if not path.is_file():
        return False
    try:
        manifest = read_json(path)
    except (InputError, OSError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"stage", "key"} <= set(manifest)


def _is_report(file: Path) -> bool:
    """Whether ``file`` is the report of a run: it stands beside the folders of stages."""
    if file.name != _REPORT:
        return False
    return any(child.is_dir() and is_result(child) for child in file.parent.iterdir())
