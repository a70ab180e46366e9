"""What is there against what an index holds: what to read, what to leave, what is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fledge.index.load.source import Source, owner
from fledge.index.loaded import Unreadable
from fledge.index.store.protocol import Known

RETRY = "retry"
"""Fingerprint of documents whose source could not be read whole: read it again next time."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a document's source and settings were when it was stored.

    ``documents`` is how many the source had: with fewer, a build was killed half-way through it.
    """

    reading: str
    documents: int
    digest: str
    stamp: str

    def __str__(self) -> str:
        return f"{self.reading}:{self.documents}:{self.digest}:{self.stamp}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a build has to do."""

    read: list[Source]
    """New and changed sources."""
    unchanged: int
    """Documents that are as they were."""
    gone: list[str]
    """Ids of documents whose source is no longer there."""
    failed: list[Unreadable] = field(default_factory=list)
    """What could not even be looked at; documents below it stay."""


def find_changes(
    found: Iterable[Source | Unreadable], known: Sequence[Known], reading: str
) -> Changes:
    """Compare what was found with what an index holds.  Reads a file whose time of change is new,
    to see whether its content is."""
    held: dict[str, list[Known]] = {}
    for each in known:
        held.setdefault(owner(each.id), []).append(each)
    read: list[Source] = []
    failed: list[Unreadable] = []
    unchanged, seen = 0, set()
    for source in found:
        if isinstance(source, Unreadable):
            failed.append(source)
            continue
        if source.id in seen:
            failed.append(Unreadable(path=source.path, reason="duplicate_id", evidence=source.id))
            continue
        seen.add(source.id)
        before = held.get(source.id, [])
        if before and _is_current(source, before, reading):
            unchanged += len(before)
        else:
            read.append(source)
    gone = [
        each.id
        for id, documents in held.items()
        if id not in seen
        for each in documents
        if not any(concerns(failure, each.path) for failure in failed)
    ]
    return Changes(read=read, unchanged=unchanged, gone=gone, failed=failed)


def _is_current(source: Source, before: Sequence[Known], reading: str) -> bool:
    """Whether the documents stored of a source are all there and all as it has them now."""
    marks = {each.fingerprint for each in before}
    mark = marks.pop()
    if marks or not mark.startswith(f"{reading}:{len(before)}:"):
        return False
    digest, stamp = mark.split(":", 3)[2:]
    if source.stamp and source.stamp == stamp:
        return True
    try:
        return source.digest() == digest
    except OSError:
        return False


def concerns(failure: Unreadable, path: str) -> bool:
    """Whether what could not be read is this document, or a folder or archive around it."""
    around = failure.path.rstrip("/")
    return path == failure.path or (path.startswith(around) and path[len(around) :][:1] in "/!#")
