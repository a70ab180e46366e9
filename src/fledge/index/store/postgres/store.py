"""The store: connections to a server, commits, snapshots."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from fledge.core.errors import InputError
from fledge.core.types import content_hash
from fledge.index.store.entries import checked_entries
from fledge.index.store.postgres.schema import (
    VERSION,
    connect,
    create_tables,
    explained,
    from_bytes,
    is_there,
    split_url,
)
from fledge.index.store.postgres.snapshot import INDEX, INDEX_FROM, PostgresSnapshot, indexed
from fledge.index.store.postgres.writing import checksum, write_commit
from fledge.index.store.protocol import Entry, Snapshot


class PostgresStore:
    """See ``Store``.  May be used by several threads; each process opens its own."""

    def __init__(self, url: str) -> None:
        """Open the index at a URL; raises InputError when there is none."""
        self.url = url
        self._lock = threading.Lock()
        self._free: list[Any] = []
        with self._connection() as connection:
            if not is_there(connection, split_url(url)[1]):
                raise InputError(f"{url} holds no index", remedy="fledge index build makes one")
            version, settings = connection.execute("SELECT version, settings FROM state").fetchone()
        if version != VERSION:
            raise InputError(
                f"{url} has format {version}, this fledge reads {VERSION}",
                remedy="use the fledge that made it, or build it again",
            )
        self._settings: dict[str, Any] = json.loads(settings)

    @classmethod
    def create(cls, url: str, settings: dict[str, Any]) -> PostgresStore:
        """Make an empty index at a URL, or open the one that another process just made."""
        with closing(connect(url)) as connection:
            create_tables(connection, url, json.dumps(settings))
        return cls(url)

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def commit(self, upserts: Iterable[Entry], deletes: Iterable[str] = ()) -> None:
        entries, gone = checked_entries(upserts, deletes)
        with self._connection() as connection, connection.transaction():
            write_commit(connection, entries, gone)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self._connection() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield PostgresSnapshot(connection)
            finally:
                if not connection.closed:
                    connection.execute("ROLLBACK")

    def compact(self) -> None:
        with self._connection() as connection:
            dimensions = connection.execute("SELECT dimensions FROM state").fetchone()[0]
            query = "SELECT count(embedding) FROM chunks"
            count = connection.execute(query).fetchone()[0]
            if count >= INDEX_FROM and not indexed(connection):
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {INDEX} ON chunks USING hnsw"
                    f" ((embedding::vector({int(dimensions)})) vector_ip_ops)"
                )
            connection.execute("VACUUM ANALYZE")

    def verify(self) -> list[str]:
        with self.snapshot() as snapshot:
            return list(_problems(snapshot))

    def close(self) -> None:
        with self._lock:
            while self._free:
                self._free.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection that nobody else uses meanwhile."""
        with self._lock:
            connection = self._free.pop() if self._free else None
        with explained(self.url):
            connection = connection or connect(self.url)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        with self._lock:
            self._free.append(connection)


def holds_postgres(url: str) -> bool:
    """Whether there is an index at a URL."""
    with closing(connect(url)) as connection:
        return is_there(connection, split_url(url)[1])


def _problems(snapshot: Any) -> Iterator[str]:
    """Texts against hashes, spans against texts, words and vectors against their checksums."""
    for known in snapshot.known():
        document = snapshot.document(known.id)
        if content_hash(document.text) != known.hash:
            yield f"document {known.id!r}: the text is not what its hash {known.hash} names"
    for id, wanted, found in snapshot._rows(
        "SELECT d.id, d.chunks, count(c.number) FROM documents d LEFT JOIN chunks c ON"
        " c.document = d.number AND c.start_at >= 0 AND c.start_at < c.end_at"
        " AND c.end_at <= d.characters GROUP BY d.number HAVING d.chunks != count(c.number)"
    ):
        yield f"document {from_bytes(id)!r}: {found} good chunks of {wanted}"
    counts: dict[int, Counter[str]] = {}
    for term, chunk, count in snapshot._rows("SELECT term, chunk, count FROM postings"):
        counts.setdefault(chunk, Counter())[from_bytes(term)] = count
    rows = snapshot._rows("SELECT number, checksum, embedding::text FROM chunks")
    for number, wanted, vector in rows:
        given = None if vector is None else np.array(json.loads(vector), dtype=np.float32)
        if checksum(counts.get(number, Counter()), given) != wanted:
            yield f"chunk {number}: words or vector are not what was written"
