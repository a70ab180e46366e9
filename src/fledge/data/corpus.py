"""The corpus stage: raw pages to clean documents, each drop with its reason, resumable.

Records are cut into batches; workers turn a batch into a shard file in ``state/shards/``; when all
shards are there, duplicates are found across them and the documents are written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fledge.core.errors import InputError
from fledge.core.files import read_json, value_digest, write_json
from fledge.core.protocols import Progress, Silent
from fledge.core.run import Outcome, usable_cores
from fledge.core.types import Verdict
from fledge.data.assemble import assemble
from fledge.data.config import CorpusConfig
from fledge.data.curate import Draft, Steps, curate_or_drop, draft_of
from fledge.data.dedup import fingerprint
from fledge.data.failures import left_out_line, nothing_kept, nothing_read
from fledge.data.inputs import scan_inputs
from fledge.data.pool import OutOfTime, Place, limited, run_tasks
from fledge.data.read import read_stream
from fledge.data.records import RawRecord, ReadNotes
from fledge.data.shards import SHARD, shard_row, write_rows

BATCH_RECORDS = 200
BATCH_BYTES = 4_000_000

MOST_WORKERS = 16
"""Workers when the user names no number: more would wait for the one process that reads."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive records of one file: the unit of work, and of resuming."""

    number: int
    records: list[RawRecord]
    read_bytes: int
    """Bytes of the input file read for it."""

    path: Path
    """The shard file it becomes."""

    config: CorpusConfig


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a worker tells about a finished batch."""

    number: int
    records: int
    read_bytes: int
    seconds: dict[str, float] = field(default_factory=dict)


def build_corpus(
    config: CorpusConfig,
    inputs: Sequence[Path | str],
    out: Path,
    progress: Progress | None = None,
    truth: Path | None = None,
) -> Outcome:
    """Clean documents from ``inputs`` in ``out``; with ``truth``, the steps are measured too.

    Continues what a killed run left in ``out``.  Raises InputError when there is nothing to read,
    or nothing to keep.
    """
    progress = progress or Silent()
    scan = scan_inputs(inputs, out)
    files = scan.files
    if not files:
        raise InputError("no input was named", remedy="name files, folders or patterns")
    shards = _begin(config, [*files, *([truth] if truth is not None else [])], out)
    if not (out / "stats.json").is_file():
        notes = ReadNotes(left_out=scan.left_out)
        seconds = _curate_all(config, files, shards, notes, progress)
        _report(notes, progress)
        assemble(config, shards, out, notes, progress, truth)
        write_json(out / "logs" / "seconds.json", seconds)
    for folder in (out / "state").glob("shards-*"):
        shutil.rmtree(folder, ignore_errors=True)
    stats = read_json(out / "stats.json")
    if not stats["kept"]:
        raise nothing_kept(stats)
    return outcome_of(stats)


def outcome_of(stats: dict[str, Any]) -> Outcome:
    """The counts and figures that ``stats.json`` holds."""
    counts = {
        "records": stats["records"],
        "documents": stats["kept"],
        "dropped": stats["records"] - stats["kept"],
        "bytes": stats["bytes"],
        **{f"dropped.{reason}": count for reason, count in stats["dropped"].items()},
    }
    return Outcome(counts=counts, figures=stats.get("figures", {}))


def corpus_stats(folder: Path) -> dict[str, Any]:
    """The statistics of a built corpus (its folder, or a run that has one)."""
    for place in (folder, folder / "corpus"):
        if (place / "stats.json").is_file():
            stats: dict[str, Any] = read_json(place / "stats.json")
            return stats
    raise InputError(f"{folder} is no built corpus", remedy="build it: fledge corpus build")


def _begin(config: CorpusConfig, files: Sequence[Path], out: Path) -> Path:
    """Empty ``out`` of what an unlike run left; remember what this run is.

    Returns the folder for its shards.  It bears the name of the plan, so that a worker that
    outlived a run of another plan cannot leave a shard that counts.
    """
    plan = {
        "config": config.model_dump(mode="json", exclude={"workers", "input"}),
        "files": [[str(file), file.stat().st_size] for file in files],
    }
    key = value_digest(plan)
    path = out / "state" / "plan.json"
    shards = out / "state" / f"shards-{key[:12]}"
    if path.is_file() and read_json(path)["key"] == key:
        return shards
    for name in ("state", "documents", "dropped"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "stats.json").unlink(missing_ok=True)
    write_json(path, {"key": key, "files": [str(file) for file in files]})
    return shards


def _curate_all(
    config: CorpusConfig,
    files: Sequence[Path],
    shards: Path,
    notes: ReadNotes,
    progress: Progress,
) -> dict[str, float]:
    """Write the shards that are not there yet; returns the seconds spent per step."""
    seconds: dict[str, float] = {}
    workers = config.workers or min(usable_cores(), MOST_WORKERS)
    total = sum(file.stat().st_size for file in files)
    with progress.bar("reading pages", total, "B") as bar:

        def missing() -> Iterator[Batch]:
            for batch in batches(config, files, shards, notes):
                if batch.path.is_file():
                    bar.advance(batch.read_bytes)
                else:
                    yield batch

        for done in run_tasks(curate_batch, missing(), workers, config.document_seconds):
            bar.advance(done.read_bytes)
            for step, spent in done.seconds.items():
                seconds[step] = round(seconds.get(step, 0.0) + spent, 3)
    return seconds


def batches(
    config: CorpusConfig, files: Sequence[Path], shards: Path, notes: ReadNotes
) -> Iterator[Batch]:
    """The records of all files, in batches; the same files always give the same batches."""
    number = 0
    names = source_names(files)
    for file in files:
        with file.open("rb") as raw:
            before = 0
            for records in _chunks(_records(config, raw, names[file], notes)):
                after = min(raw.tell(), file.stat().st_size)
                path = shards / f"{number:06d}.parquet"
                yield Batch(
                    number=number,
                    records=records,
                    read_bytes=max(after - before, 0),
                    path=path,
                    config=config,
                )
                number, before = number + 1, max(before, after)
    if number == 0:
        raise nothing_read(files, notes)


def _records(
    config: CorpusConfig, raw: IO[bytes], name: str, notes: ReadNotes
) -> Iterator[RawRecord]:
    return read_stream(raw, name, notes, keys=config.jsonl_text, limit=config.document_bytes)


def _chunks(records: Iterator[RawRecord]) -> Iterator[list[RawRecord]]:
    chunk: list[RawRecord] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += record.size
        if len(chunk) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def source_names(files: Sequence[Path]) -> dict[Path, str]:
    """A short name per file, relative to the folder they share: the same on every machine."""
    parents = [str(file.resolve().parent) for file in files]
    common = os.path.commonpath(parents) if parents else ""
    return {file: Path(os.path.relpath(file.resolve(), common)).as_posix() for file in files}


def curate_batch(batch: Batch, bad: dict[int, str], place: Place) -> Done:
    """Curate a batch into its shard file; ``bad`` items are dropped unseen with their reason."""
    steps = Steps()
    size = batch.config.duplicates.bands * batch.config.duplicates.rows
    rows = []
    for index, record in enumerate(batch.records):
        place.enter(index)
        draft = _one(record, batch.config, bad.get(index), steps)
        with steps.time("hash"):
            kept = draft.verdict is None
            exact, minima = fingerprint(draft.text, size) if kept else ("", b"")
        rows.append(shard_row(draft, exact, minima))
    place.enter(-1)
    with steps.time("write"):
        write_rows(batch.path, rows, SHARD)
    return Done(
        number=batch.number,
        records=len(rows),
        read_bytes=batch.read_bytes,
        seconds=steps.seconds,
    )


def _one(record: RawRecord, config: CorpusConfig, bad: str | None, steps: Steps) -> Draft:
    """The draft of a record, whatever the record does to us."""
    draft = draft_of(record)
    if bad is not None:
        draft.verdict = Verdict(reason=f"failed.{bad}", evidence="the worker process was lost")
        return draft
    try:
        with limited(config.document_seconds):
            return curate_or_drop(record, config, steps=steps)
    except OutOfTime:
        limit = f"longer than {config.document_seconds:g} s"
        draft.verdict = Verdict(reason="failed.timeout", evidence=limit)
    return draft


def _report(notes: ReadNotes, progress: Progress) -> None:
    """Tell the user which files are not whole, and how many are not read at all."""
    if notes.left_out:
        progress.say(f"warning: {left_out_line(notes.left_out)}")
    for name in notes.truncated:
        progress.say(f"warning: {name} ends too early; what could be read of it is used")
    for line in notes.damaged:
        progress.say(f"warning: {line}; what could be read before is used")
