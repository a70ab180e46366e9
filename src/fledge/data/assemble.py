"""Shards to a corpus: duplicates found across all of them, sets split, files and statistics."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from fledge.core.files import write_json
from fledge.core.protocols import Progress
from fledge.core.types import Verdict
from fledge.data.config import CorpusConfig
from fledge.data.dedup import U64, near_duplicates, shingles
from fledge.data.records import ReadNotes
from fledge.data.shards import DOCUMENTS, DROPPED, RowWriter, read_rows, signatures_of
from fledge.data.statistics import Statistics

FILE_CHARACTERS = 64_000_000
"""Characters of text in one output file."""


@dataclass(frozen=True)
class Entry:
    """A surviving document, without its text."""

    id: str
    """Of the document, for evidence; two rows are told apart by ``place``."""

    exact: str
    length: int
    work: str
    lang: str
    names: tuple[str, ...]
    """What a ``validation`` pattern may match."""

    place: tuple[int, int]
    """Shard and row: unlike ids, never shared by two documents."""


def assemble(
    config: CorpusConfig,
    folder: Path,
    out: Path,
    notes: ReadNotes,
    progress: Progress,
    truth: Path | None,
) -> None:
    """Write ``documents/``, ``dropped/`` and, last, ``stats.json`` from the shards."""
    shards = sorted(folder.glob("*.parquet"))
    entries, signatures = _survivors(shards)
    duplicates = find_duplicates(config, shards, entries, signatures, progress)
    survivors = [entry for entry in entries if entry.place not in duplicates]
    held_out = choose_validation(config, survivors)
    for name in ("documents", "dropped"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    writers = {
        split: RowWriter(out / "documents", split, DOCUMENTS, FILE_CHARACTERS)
        for split in ("train", "validation")
    }
    dropped = RowWriter(out / "dropped", "dropped", DROPPED, FILE_CHARACTERS)
    statistics = Statistics(config, notes, truth)
    with progress.bar("writing documents", len(shards), "shards") as bar:
        for number, shard in enumerate(shards):
            for place, row in enumerate(read_rows(shard)):
                verdict = duplicates.get((number, place))
                if verdict is not None:
                    row["reason"], row["evidence"] = verdict.reason, verdict.evidence
                split = "validation" if row["work"] in held_out else "train"
                (writers[split] if row["reason"] is None else dropped).add(row)
                statistics.add(row, split)
            bar.advance(1)
    for writer in (*writers.values(), dropped):
        writer.flush()
    write_json(out / "stats.json", statistics.result())


def _survivors(shards: Sequence[Path]) -> tuple[list[Entry], list[bytes]]:
    """Documents no per-document step dropped, and their MinHash signatures."""
    entries: list[Entry] = []
    signatures: list[bytes] = []
    columns = ["id", "text", "url", "source", "lang", "work", "reason", "exact", "signature"]
    for number, shard in enumerate(shards):
        for place, row in enumerate(read_rows(shard, columns)):
            if row["reason"] is None:
                names = (row["source"], row["work"], row["url"])
                entries.append(
                    Entry(
                        row["id"], row["exact"], len(row["text"]), row["work"], row["lang"], names,
                        (number, place),
                    )
                )  # fmt: skip
                signatures.append(row["signature"])
    return entries, signatures


def find_duplicates(
    config: CorpusConfig,
    shards: Sequence[Path],
    entries: Sequence[Entry],
    signatures: Sequence[bytes],
    progress: Progress,
) -> dict[tuple[int, int], Verdict]:
    """Redundant documents, by place, each with the document it repeats as evidence."""
    found: dict[tuple[int, int], Verdict] = {}
    order = sorted(range(len(entries)), key=lambda i: (-entries[i].length, entries[i].id))
    first: dict[str, int] = {}
    for index in order:
        entry = entries[index]
        if entry.exact in first:
            same = entries[first[entry.exact]]
            found[entry.place] = Verdict(reason="duplicate.exact", evidence=f"same as {same.id}")
        else:
            first[entry.exact] = index
    if not config.duplicates.near or not first:
        return found
    unique = sorted(first.values())
    texts = _Texts(shards, [entries[i].place for i in unique])
    rank = {index: place for place, index in enumerate(order)}
    settings = config.duplicates
    with progress.bar("near duplicates", None, "pairs"):
        redundant = near_duplicates(
            signatures_of((signatures[i] for i in unique), settings.bands * settings.rows),
            sorted(range(len(unique)), key=lambda place: rank[unique[place]]),
            texts.shingles,
            bands=settings.bands,
            rows=settings.rows,
            threshold=settings.threshold,
        )
    for place, (kept, similarity) in redundant.items():
        evidence = f"{similarity:.2f} like {entries[unique[kept]].id}"
        found[entries[unique[place]].place] = Verdict(reason="duplicate.near", evidence=evidence)
    return found


class _Texts:
    """Shingle sets of documents by number; their texts are read from the shards when needed."""

    def __init__(self, shards: Sequence[Path], places: Sequence[tuple[int, int]]) -> None:
        self._shards, self._places = shards, places
        self._shard = lru_cache(maxsize=16)(self._read)
        self.shingles = lru_cache(maxsize=100_000)(self._shingles)

    def _read(self, shard: int) -> list[str]:
        return [row["text"] for row in read_rows(self._shards[shard], ["text"])]

    def _shingles(self, number: int) -> U64:
        shard, row = self._places[number]
        return shingles(self._shard(shard)[row])


def choose_validation(config: CorpusConfig, entries: Sequence[Entry]) -> set[str]:
    """Works held out.  By pattern, else by hash of the name: at least one work per language.

    The hash does not depend on other documents, so a corpus that grows keeps its split.
    """
    if config.validation:
        return {entry.work for entry in entries if _matches(entry, config.validation)}
    if not config.validation_share:
        return set()
    held = {entry.work for entry in entries if fraction(entry.work) < config.validation_share}
    works: dict[str, set[str]] = {}
    for entry in entries:
        works.setdefault(entry.lang, set()).add(entry.work)
    for names in works.values():
        if len(names) > 1 and not names & held:
            held.add(min(names, key=lambda name: (fraction(name), name)))
    return held


def fraction(name: str) -> float:
    """A number in [0, 1) that only depends on ``name``."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _matches(entry: Entry, patterns: Sequence[str]) -> bool:
    names = {*entry.names, *(Path(name.split("#")[0]).name for name in entry.names if name)}
    names |= {name.split("#")[0] for name in entry.names}
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
