"""What the user names to the sources there are, in a fixed order; nothing is parsed."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fledge.core.errors import InputError
from fledge.data.inputs import is_result
from fledge.index.load.config import LoadConfig
from fledge.index.load.inputs import is_pattern, pattern_base, roots
from fledge.index.load.source import Source, quoted, shown, stamp_of
from fledge.index.loaded import Unreadable

API_SUFFIX = ".api.toml"
DATABASES = ("sqlite://", "postgresql://", "postgres://")


def discover(
    inputs: Sequence[str], config: LoadConfig | None = None, *, leave_out: Sequence[Path] = ()
) -> Iterator[Source | Unreadable]:
    """Every source that ``inputs`` name, and what is not read, with the reason.

    An input is a file, folder, glob, ``http(s)://`` URL, ``sqlite:///`` or ``postgresql://`` URL
    with ``query``, ``id`` and ``text``, or a ``.api.toml`` file that maps an HTTP API.  What is in
    ``leave_out`` (the index itself) is passed over.  Files come first, in order of their paths.
    Raises InputError for an input that names nothing.
    """
    config = config or LoadConfig()
    local = [text for text in inputs if not _is_remote(text)]
    ids: dict[str, str] = {}
    for item in _files(local, _Walk(config=config, closed=[path.resolve() for path in leave_out])):
        if isinstance(item, Source):
            _claim(item, ids)
        yield item
    for text in dict.fromkeys(text for text in inputs if _is_remote(text)):
        for item in _remote(text, config):
            if isinstance(item, Source):
                _claim(item, ids)
            yield item


def _claim(source: Source, ids: dict[str, str]) -> None:
    other = ids.setdefault(source.id, source.path)
    if other != source.path:
        raise InputError(
            f"{other} and {source.path} would have the same id {source.id!r}",
            remedy="name a folder above both as the input",
        )


def _is_remote(text: str) -> bool:
    return text.startswith(("http://", "https://", *DATABASES)) or text.endswith(API_SUFFIX)


def _remote(text: str, config: LoadConfig) -> Iterator[Source | Unreadable]:
    if text.startswith(("http://", "https://")):
        from fledge.index.load.web import fetch

        yield fetch(text, config.limits)
    elif text.endswith(API_SUFFIX):
        from fledge.index.load.api import fetch_items, read_mapping

        yield from fetch_items(read_mapping(Path(text)), config.limits)
    else:
        from fledge.index.load.sql import fetch_rows

        yield from fetch_rows(text, config.limits)


@dataclass(kw_only=True)
class _Walk:
    """What a walk over the inputs knows so far."""

    config: LoadConfig
    closed: list[Path]
    """Folders and files that are passed over."""
    seen: set[tuple[int, int]] = field(default_factory=set)
    """Device and inode of the files that were given already, under whatever name."""

    def is_closed(self, file: Path) -> bool:
        """Whether a file is passed over; most are told by their name, without asking the disk."""
        named = any(file.name == one.name for one in self.closed)
        return (named or file.is_symlink()) and file.resolve() in self.closed


def _files(inputs: Sequence[str], walk: _Walk) -> Iterator[Source | Unreadable]:
    """The files below the inputs, each once."""
    bases: dict[str, Path] = {}
    for text in dict.fromkeys(inputs):
        path = Path(text).expanduser()
        bases[text] = pattern_base(path) if is_pattern(text) else path
        if not bases[text].exists():
            raise InputError(f"input {text!r} does not exist", remedy="check the path")
    names = roots(list(bases.values()))
    depths = {base: len(base.resolve().parts) for base in names}
    # the outermost first: a file's id is that below the widest input
    for text, base in sorted(bases.items(), key=lambda at: (depths[at[1]], names[at[1]], at[0])):
        name = names[base]
        if is_pattern(text):
            yield from _matching(text, base, name, walk)
        elif base.is_dir():
            yield from _below(base, base, name, walk)
        else:
            yield from _file(base, name, walk)


def _matching(pattern: str, base: Path, name: str, walk: _Walk) -> Iterator[Source | Unreadable]:
    matches = sorted(map(Path, glob.glob(str(Path(pattern).expanduser()), recursive=True)))
    if not matches:
        raise InputError(f"input {pattern!r} matches no file", remedy="check the pattern")
    for match in matches:
        below = match.relative_to(base)
        if any(_is_closed_name(part, walk.config) for part in below.parts[:-1]):
            continue
        if match.is_dir():
            if "**" not in pattern:
                yield from _below(match, base, name, walk)
        else:
            yield from _file(match, f"{name}/{below.as_posix()}", walk)


def _is_closed_name(name: str, config: LoadConfig) -> bool:
    return (name.startswith(".") and not config.hidden) or name in config.skip_folders


def _below(folder: Path, base: Path, name: str, walk: _Walk) -> Iterator[Source | Unreadable]:
    """The files below ``folder``, in order of their paths; links to folders are not followed."""
    own = is_result(folder)  # a corpus: what it dropped and its logs are no documents
    first = folder / "documents" if own and (folder / "documents").is_dir() else folder
    stack = [(first, True, False)]  # path, is it a folder, is it a link
    while stack:
        place, is_folder, is_link = stack.pop()
        if is_folder:
            if reason := _closed(place, folder, walk):
                if reason != "left_out":
                    yield Unreadable(path=shown(f"{place}/"), reason=reason)
                continue
            try:
                children = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError as error:
                yield Unreadable(
                    path=shown(f"{place}/"), reason="unreadable", evidence=error.strerror or ""
                )
                continue
            stack.extend(
                (place / entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink())
                for entry in reversed(children)
            )
        else:
            yield from _below_file(place, base, name, walk, is_link=is_link)


def _closed(place: Path, folder: Path, walk: _Walk) -> str:
    """Why a folder is not entered, or "".  What the user named is always entered."""
    if place.resolve() in walk.closed:
        return "left_out"
    if place == folder or (place.parent == folder and is_result(folder)):
        return ""
    if place.name in walk.config.skip_folders:
        return "skipped"
    if place.name.startswith(".") and not walk.config.hidden:
        return "hidden"
    return "own_result" if is_result(place) else ""


def _below_file(
    path: Path, base: Path, name: str, walk: _Walk, *, is_link: bool
) -> Iterator[Source | Unreadable]:
    if path.name.startswith(".") and not walk.config.hidden:
        yield Unreadable(path=shown(str(path)), reason="hidden")
        return
    if is_link:
        target = Path(os.path.realpath(path))  # Path.resolve raises on loops
        if not target.is_relative_to(base.resolve()):
            yield Unreadable(path=shown(str(path)), reason="escapes", evidence=shown(str(target)))
            return
        if target.is_dir():
            yield Unreadable(path=shown(str(path)), reason="link", evidence=shown(str(target)))
            return
    yield from _file(path, f"{name}/{path.relative_to(base).as_posix()}", walk)


def _file(path: Path, id: str, walk: _Walk) -> Iterator[Source | Unreadable]:
    """The source of one file, unless it was given already under another name."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            yield Unreadable(path=shown(str(path)), reason="unsupported", evidence="no plain file")
            return
        if walk.is_closed(path):
            return
        if (found.st_dev, found.st_ino) in walk.seen:
            return
        walk.seen.add((found.st_dev, found.st_ino))
    except OSError as error:
        reason = "link" if path.is_symlink() else "unreadable"
        evidence = error.strerror or str(error)
        yield Unreadable(path=shown(str(path)), reason=reason, evidence=evidence)
        return
    yield Source(
        id=quoted(id), path=shown(str(path)), name=path.name, stamp=stamp_of(found), file=path
    )
