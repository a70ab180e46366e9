"""Inputs to names: which of their parts begins the ids of what lies below them."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def roots(paths: Sequence[Path]) -> dict[Path, str]:
    """For each path, the shortest of its ends that no other path here has.

    So ids do not depend on where an input lies, unless two have the same name:
    ``/a/docs`` is "docs"; ``/a/docs`` and ``/b/docs`` are "a/docs" and "b/docs".
    """
    resolved = {path: path.resolve() for path in paths}
    lengths = dict.fromkeys(resolved.values(), 1)
    while True:
        ends = {path: _end(path, length) for path, length in lengths.items()}
        counts = Counter(ends.values())
        longer = [path for path, end in ends.items() if counts[end] > 1]
        longer = [path for path in longer if lengths[path] < len(path.parts)]
        if not longer:
            return {path: ends[resolved[path]] for path in resolved}
        for path in longer:
            lengths[path] += 1


def _end(path: Path, length: int) -> str:
    parts = path.parts[1:] if path.is_absolute() else path.parts
    return "/".join(parts[-length:]) or "root"


def is_pattern(text: str) -> bool:
    """Whether an input is a glob and no path that exists."""
    return glob.has_magic(text) and not Path(text).expanduser().exists()


def pattern_base(pattern: Path) -> Path:
    """The folder above the first part of a glob that is a pattern."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]) if first else Path()
