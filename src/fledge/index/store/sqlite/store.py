"""The store: opens, commits, gives snapshots."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from fledge.index.store.entries import checked_entries
from fledge.index.store.protocol import Entry, Snapshot, Vectors
from fledge.index.store.sqlite.compaction import compact
from fledge.index.store.sqlite.schema import (
    BUSY_SECONDS,
    DATABASE,
    check_version,
    connect,
    create_tables,
    explained,
    transaction,
)
from fledge.index.store.sqlite.slots import SlotView, read_slots
from fledge.index.store.sqlite.snapshot import SqliteSnapshot
from fledge.index.store.sqlite.vector_file import (
    map_vectors,
    remove_other_generations,
    vector_path,
)
from fledge.index.store.sqlite.verify import problems
from fledge.index.store.sqlite.writing import State, prepare, read_state, write_commit


class SqliteStore:
    """See ``Store``.  May be used by several threads; each process opens its own."""

    def __init__(self, folder: Path) -> None:
        """Open the index in ``folder``; raises InputError when there is none."""
        self.folder = folder
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._free: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._view: tuple[tuple[int, int], SlotView] | None = None
        with self._connection() as connection:
            check_version(connection, folder)
            query = "SELECT settings FROM state"
            self._settings: dict[str, Any] = json.loads(connection.execute(query).fetchone()[0])

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any]) -> SqliteStore:
        """Make an empty index in ``folder``, or open the one that another process just made."""
        folder.mkdir(parents=True, exist_ok=True)
        with explained(folder), closing(connect(folder)) as connection:
            create_tables(connection, json.dumps(settings, ensure_ascii=False))
        return cls(folder)

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def commit(self, upserts: Iterable[Entry], deletes: Iterable[str] = ()) -> None:
        entries, gone = checked_entries(upserts, deletes)
        prepared = prepare(entries)
        with (
            self._writing,
            explained(self.folder),
            self._connection() as connection,
            transaction(connection, write=True),
        ):
            write_commit(connection, self.folder, prepared, gone)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self._connection() as connection:
            view, vectors = self._begin(connection)
            try:
                yield SqliteSnapshot(connection, view, vectors, self._size)
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def _begin(self, connection: sqlite3.Connection) -> tuple[SlotView, Vectors]:
        """Begin a read transaction; its slots and vectors."""
        for attempt in range(100):
            connection.execute("BEGIN")
            state = read_state(connection)
            path = vector_path(self.folder, state.generation)
            try:
                count = state.slots if state.dimensions else 0
                return self._slots(connection, state), map_vectors(path, count, state.dimensions)
            except FileNotFoundError:  # compacted between the two: begin again, with the new file
                connection.execute("ROLLBACK")
                if attempt == 99:
                    raise
            except ValueError:
                connection.execute("ROLLBACK")
                raise sqlite3.DatabaseError(f"{path} is shorter than it should be") from None
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        raise AssertionError

    def _slots(self, connection: sqlite3.Connection, state: State) -> SlotView:
        """The slots of a state; those of the latest are kept for the next snapshot."""
        key = (state.commits, state.generation)
        kept = self._view
        if kept is not None and kept[0] == key:
            return kept[1]
        view = SlotView(read_slots(connection, state.slots))
        if kept is None or key > kept[0]:
            self._view = (key, view)
        return view

    def compact(self) -> None:
        with self._writing, explained(self.folder), self._connection() as connection:
            with transaction(connection, write=True):
                generation = compact(connection, self.folder)
            remove_other_generations(self.folder, generation)
            connection.execute("PRAGMA busy_timeout=0")
            with suppress(sqlite3.OperationalError):  # others are at work: next time
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")

    def verify(self) -> list[str]:
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                return problems(connection, self.folder)
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            while self._free:
                self._free.pop().close()
        self._view = None

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile; errors are explained."""
        with self._lock:
            if self._process != os.getpid():  # after a fork: the parent's are not ours to use
                self._free, self._process = [], os.getpid()
            connection = self._free.pop() if self._free else None
        with explained(self.folder, disk=False):
            connection = connection or connect(self.folder)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        with self._lock:
            self._free.append(connection)

    def _size(self) -> int:
        """Bytes on disk."""
        paths = [*self.folder.glob(f"{DATABASE}*"), *self.folder.glob("vectors-*.f32")]
        return sum(path.stat().st_size for path in paths if path.is_file())


def holds_index(folder: Path) -> bool:
    """Whether there is an index in ``folder``; a killed creation left none."""
    if not (folder / DATABASE).is_file():
        return False
    with explained(folder), closing(connect(folder)) as connection:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0])
