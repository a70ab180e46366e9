"""The store: a folder with a Lance table, its settings, and a lock that writers hold."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import isqrt
from pathlib import Path
from typing import Any

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import read_json, write_json
from fledge.index.store.entries import checked_entries, dimensions_of
from fledge.index.store.lance.library import lancedb
from fledge.index.store.protocol import Entry, Snapshot

SETTINGS = "index.json"
TABLE = "chunks"
INDEX_FROM = 50_000
"""Vectors from which on an index is made: fewer are compared exactly in little time."""
KEPT = timedelta(hours=1)
"""How long a version that readers may still hold is kept after a newer one."""
_LOCK = ".writing"
_SCALARS = ("number", "document", "id", "parent")


class LanceStore:
    """See ``Store``.  May be used by several threads and processes of one machine."""

    def __init__(self, folder: Path) -> None:
        """Open the index in ``folder``; raises InputError when there is none."""
        if not holds_lance(folder):
            raise InputError(f"{folder} holds no Lance index", remedy="fledge index build")
        self.folder = folder
        self._lock = threading.RLock()
        self._settings: dict[str, Any] = read_json(folder / SETTINGS)
        self._database = lancedb().connect(str(folder))
        self._table = self._database.open_table(TABLE)
        self._checked_out: tuple[int, Any] | None = None

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any]) -> LanceStore:
        """Make an empty index in ``folder``, or open the one that another process just made."""
        library = lancedb()
        from lancedb.index import FTS

        from fledge.index.store.lance.rows import SCHEMA

        folder.mkdir(parents=True, exist_ok=True)
        with _written(folder):
            if not holds_lance(folder):
                database = library.connect(str(folder))
                table = database.create_table(TABLE, schema=SCHEMA, mode="overwrite")
                words = FTS(
                    base_tokenizer="whitespace",
                    lower_case=False,
                    stem=False,
                    remove_stop_words=False,
                    ascii_folding=False,
                    max_token_length=None,
                    with_position=False,
                )
                table.create_index("words", config=words)
                write_json(folder / SETTINGS, settings)
        return cls(folder)

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def commit(self, upserts: Iterable[Entry], deletes: Iterable[str] = ()) -> None:
        import pyarrow as pa

        from fledge.index.store.lance.rows import table_of

        entries, gone = checked_entries(upserts, deletes)
        with self._lock, _written(self.folder):
            table = self._table
            table.checkout_latest()
            with self.snapshot() as before:
                old = _numbers(before, [*gone, *(entry.document.id for entry in entries)])
                known = before.dimensions  # type: ignore[attr-defined]
                following = max(_documents(before), default=0) + 1
            if not entries and not old:
                return
            dimensions = dimensions_of(entries, known)
            if dimensions and not known:
                table.add_columns([pa.field("vector", pa.list_(pa.float32(), dimensions))])
            stale = f"document IN ({', '.join(map(str, old))})"
            if not entries:
                table.delete(stale)
                return
            rows = table_of(entries, following, dimensions)
            if not old:
                table.add(rows, on_bad_vectors="null")
                return
            merge = table.merge_insert("number").when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(stale)
            merge.execute(rows, on_bad_vectors="null")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        from fledge.index.store.lance.snapshot import LanceSnapshot

        with self._lock:
            self._table.checkout_latest()
            version = self._table.version
            if self._checked_out is None or self._checked_out[0] != version:
                table = self._database.open_table(TABLE)
                table.checkout(version)
                self._checked_out = (version, table)
            table = self._checked_out[1]
        yield LanceSnapshot(table, self._size, _behind)

    def compact(self) -> None:
        from lancedb.index import BTree, IvfSq

        with self._lock, _written(self.folder):
            table = self._table
            table.checkout_latest()
            table.optimize(cleanup_older_than=KEPT)
            indexed = _indexed(table)
            for column in _SCALARS:
                if column not in indexed:
                    table.create_index(column, config=BTree())
            count = _behind(table)
            if "vector" not in indexed and count:
                # A quarter of the processor time of IVF_HNSW_SQ, and as good at this size.
                partitions = IvfSq(
                    distance_type="dot", num_partitions=isqrt(count), max_iterations=20
                )
                table.create_index("vector", config=partitions)

    def verify(self) -> list[str]:
        from fledge.index.store.lance.verify import problems

        with self.snapshot() as snapshot:
            return problems(snapshot)

    def close(self) -> None:
        self._checked_out = None

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def holds_lance(folder: Path) -> bool:
    """Whether there is a Lance index in ``folder``; a killed creation left none."""
    return (folder / SETTINGS).is_file() and (folder / f"{TABLE}.lance").is_dir()


def _indexed(table: Any) -> set[str]:
    return {column for index in table.list_indices() for column in index.columns}


def _behind(table: Any) -> int:
    """Vectors that no index covers, when there are enough for one."""
    if "vector" not in table.schema.names:
        return 0
    count = int(table.count_rows("vector IS NOT NULL"))
    for index in table.list_indices():
        if "vector" in index.columns:
            stats = table.index_stats(index.name)
            return int(stats.num_unindexed_rows) if stats is not None else count
    return count if count >= INDEX_FROM else 0


def _numbers(snapshot: Any, ids: Sequence[str]) -> list[int]:
    """Numbers of those of these documents that there are."""
    from fledge.index.store.lance.rows import SHIFT, id_key

    found: list[int] = []
    for at in range(0, len(ids), 500):
        keys = ", ".join(f"'{id_key(id)}'" for id in ids[at : at + 500])
        found += [row["number"] >> SHIFT for row in snapshot.rows(f"id IN ({keys})", [])]
    return found


def _documents(snapshot: Any) -> Iterator[int]:
    from fledge.index.store.lance.rows import SHIFT

    return (row["number"] >> SHIFT for row in snapshot.rows("row = 0", []))


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Hold the folder's lock for writing, whoever else waits; a full disk is told as such."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise FledgeError(
                f"{folder}: the disk is full; what was committed before is whole",
                remedy="free some space and run the same command again",
            ) from error
        raise
    finally:
        os.close(descriptor)
