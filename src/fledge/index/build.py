"""Inputs in, an index that holds exactly what they hold now out: what has changed is read again.

Sources whose fingerprint is known are skipped, documents whose file is gone are removed, one that
cannot be read keeps its former version.  Everything is committed in batches, so a build that is
killed or interrupted goes on where the last commit was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fledge.core.protocols import Bar, Progress, Silent
from fledge.core.run import Clock
from fledge.index.build_report import BuildReport
from fledge.index.changes import RETRY, Changes, Fingerprint, concerns, find_changes
from fledge.index.config import IndexConfig
from fledge.index.cutting import Sliced, cut_all
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.load.discovery import discover
from fledge.index.load.reading import parse_all
from fledge.index.load.source import Parsed, owner
from fledge.index.loaded import Unreadable
from fledge.index.staging import Stage
from fledge.index.store.protocol import Known, Store


def bring_up_to_date(
    store: Store,
    config: IndexConfig,
    embedder: IndexEmbedder,
    *,
    leave_out: Sequence[Path] = (),
    progress: Progress | None = None,
    report: BuildReport | None = None,
) -> BuildReport:
    """Make ``store`` hold the documents of ``config.input`` as they are now.

    ``leave_out``: folders below the inputs that are not read (the index itself).  ``report`` is
    filled as the work goes on; it is also returned.
    """
    progress, report, clock = progress or Silent(), report or BuildReport(), Clock()
    with store.snapshot() as snapshot:
        known = {each.id: each for each in snapshot.known()}
    with report.timed("discover"):
        found = discover(config.input, config.load, leave_out=leave_out)
        changes = find_changes(found, list(known.values()), config.reading())
    report.unchanged = changes.unchanged
    report.failed += changes.failed
    stage = Stage(store, embedder, report)
    with progress.bar("index", len(changes.read), "files") as bar:
        _read(changes, known, stage, config, bar)
        stage.flush()
    with report.timed("commit"):
        for at in range(0, len(changes.gone), 1000):
            store.commit([], changes.gone[at : at + 1000])
            report.removed += len(changes.gone[at : at + 1000])
        _tidy(store, report)
    report.total_seconds = clock.seconds()
    return report


def _read(
    changes: Changes, known: dict[str, Known], stage: Stage, config: IndexConfig, bar: Bar
) -> None:
    """Parse what is to be read and hand it on, a source at a time."""
    held: dict[str, list[Known]] = {}
    for each in known.values():
        held.setdefault(owner(each.id), []).append(each)
    report = stage.report
    parsing = _timed(parse_all(changes.read, config.load), report)
    embedder = stage.embedder if stage.embedder.dimensions else None
    for sliced in cut_all(parsing, config.split, embedder, len(changes.read)):
        report.failed += sliced.parsed.unreadable
        before = held.get(sliced.parsed.source.id, [])
        _take(sliced, before, stage, config.reading())
        done = report.new + report.changed
        bar.advance(1, f"{done:,} documents, {len(report.failed):,} failed")


def _timed(parsing: Iterator[Parsed], report: BuildReport) -> Iterator[Parsed]:
    while True:
        with report.timed("parse"):
            parsed = next(parsing, None)
        if parsed is None:
            return
        yield parsed


def _take(sliced: Sliced, before: Sequence[Known], stage: Stage, reading: str) -> None:
    """Stage the documents of a source; those it no longer has go in the same commit as the last.

    Of a source that was not read whole, what may be in the unread part stays as it was.
    """
    parsed = sliced.parsed
    pairs = zip(parsed.documents, sliced.cuts, strict=True)
    documents = {loaded.document.id: (loaded, cut) for loaded, cut in pairs}
    kept = {
        each.id
        for each in before
        if any(concerns(failure, each.path) for failure in parsed.unreadable)
    }
    gone = [each.id for each in before if each.id not in documents and each.id not in kept]
    whole = not parsed.unreadable
    mark = Fingerprint(
        reading=reading,
        documents=len(documents),
        digest=parsed.digest,
        stamp=parsed.source.stamp,
    )
    known = {each.id for each in before}
    for id, (loaded, cut) in documents.items():
        if isinstance(cut, Unreadable):
            stage.report.failed.append(cut)
        else:
            stage.add(loaded, cut, str(mark) if whole else RETRY, known=id in known)
    if gone and (documents or whole):
        stage.remove(gone)


DEAD = 1000
"""Chunks that are worth a compaction, when they are half as many as there are."""


def _tidy(store: Store, report: BuildReport) -> None:
    """Compact when there is more to throw away than to keep; note how much there is."""
    with store.snapshot() as snapshot:
        sizes = snapshot.sizes()
    if sizes.dead > max(DEAD, sizes.chunks // 2):
        store.compact()
        with store.snapshot() as snapshot:
            sizes = snapshot.sizes()
    report.sizes = dict(vars(sizes))
