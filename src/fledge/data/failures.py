"""Why there is no corpus, in one line with the remedy; and what was left out of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.data.records import ReadNotes

LISTED = 5
"""Reasons, or kinds of files, named in one line."""

_REMEDIES = {
    "read": "check that the files are whole and are what their names say",
    "failed": "raise document_seconds of [corpus], or give each worker more memory",
    "extract": "name pages that hold a main text",
    "quality": "loosen [corpus.quality]; `fledge extract FILE` shows single pages",
    "pii": "--set pii=mask keeps the documents (for a recipe: corpus.pii)",
    "secret": "--set secrets=mask keeps the documents (for a recipe: corpus.secrets)",
}


def nothing_kept(stats: Mapping[str, Any]) -> InputError:
    """The error for a corpus without a document: the commonest reasons, and what to do."""
    dropped = sorted(stats["dropped"].items(), key=lambda item: (-item[1], item[0]))
    reason = dropped[0][0] if dropped else ""
    family, _, rest = reason.partition(".")
    if family == "language":
        remedy = f"--set languages='[\"{rest}\"]' keeps it (for a recipe: corpus.languages)"
    else:
        remedy = _REMEDIES.get(family, "`fledge extract FILE` shows what becomes of single pages")
    seen = ", ".join(f"{reason} {count:,}" for reason, count in dropped[:LISTED])
    return InputError(f"no document is left of {stats['records']:,} ({seen})", remedy=remedy)


def nothing_read(files: Sequence[Path], notes: ReadNotes) -> InputError:
    """The error for an input without a page, with what the readers noticed."""
    seen = [f"{name} ends too early" for name in notes.truncated[:LISTED]]
    seen += notes.damaged[:LISTED]
    if notes.skipped_records:
        seen.append(f"{notes.skipped_records:,} records are no pages")
    if notes.left_out:
        seen.append(left_out_line(notes.left_out))
    more = f": {'; '.join(seen)}" if seen else ""
    return InputError(
        f"no page in {len(files)} files ({files[0]} …){more}",
        remedy="check that the input holds pages, not only other kinds of records",
    )


def left_out_line(kinds: Mapping[str, int]) -> str:
    """How many files were not read, the commonest kinds named.

    >>> left_out_line({".pdf": 990, ".docx": 10})
    '1,000 files of unknown kind were left out: .pdf 990, .docx 10'
    """
    total = sum(kinds.values())
    shown = ", ".join(f"{kind} {count:,}" for kind, count in list(kinds.items())[:LISTED])
    more = ", ..." if len(kinds) > LISTED else ""
    files = "file of unknown kind was" if total == 1 else "files of unknown kind were"
    return f"{total:,} {files} left out: {shown}{more}"
