"""The tables of ``index.db``, connections to it, and what its errors mean.

``documents``, ``chunks``, ``places`` and ``facts`` are plain rows that any SQLite client reads;
texts, boxes, slots and postings are packed (see texts.py, slots.py, postings.py).

Numbers of documents and chunks are never used twice.  A *slot* is the place of a level-0 chunk in
the arrays that searches run over: its row in the vector file, its offset in the postings.  Slots
of removed chunks stay, marked dead, until the store is compacted.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fledge.core.errors import FledgeError, InputError

DATABASE = "index.db"
VERSION = 1
APPLICATION = 0x666C6478
"""In the file's header, so that ``file`` and others know whose it is."""
BUSY_SECONDS = 60.0
"""How long to wait for another process that is writing."""

TABLES = """
CREATE TABLE state(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  commits INTEGER NOT NULL, generation INTEGER NOT NULL, dimensions INTEGER NOT NULL,
  slots INTEGER NOT NULL, next_document INTEGER NOT NULL, next_chunk INTEGER NOT NULL,
  settings TEXT NOT NULL);
CREATE TABLE documents(
  number INTEGER PRIMARY KEY, id NOT NULL UNIQUE, path NOT NULL, kind NOT NULL,
  url NOT NULL, source NOT NULL, lang NOT NULL, date NOT NULL, metadata TEXT NOT NULL,
  hash TEXT NOT NULL, fingerprint TEXT NOT NULL, characters INTEGER NOT NULL,
  first_chunk INTEGER NOT NULL, chunks INTEGER NOT NULL, searched INTEGER NOT NULL,
  places INTEGER NOT NULL);
CREATE TABLE texts(key INTEGER PRIMARY KEY, packed INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE boxes(
  key INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE places(
  document INTEGER, start INTEGER, end INTEGER NOT NULL, label NOT NULL,
  PRIMARY KEY (document, start)) WITHOUT ROWID;
CREATE TABLE chunks(
  number INTEGER PRIMARY KEY, document INTEGER NOT NULL, start INTEGER NOT NULL,
  end INTEGER NOT NULL, level INTEGER NOT NULL, position INTEGER NOT NULL, parent INTEGER,
  heading NOT NULL, slot INTEGER);
CREATE INDEX chunks_by_parent ON chunks(parent) WHERE parent IS NOT NULL;
CREATE TABLE facts(
  field BLOB, type TEXT, value, document INTEGER,
  PRIMARY KEY (field, type, value, document)) WITHOUT ROWID;
CREATE INDEX facts_by_document ON facts(document);
CREATE TABLE slots(block INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE segments(
  number INTEGER PRIMARY KEY AUTOINCREMENT, first INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE TABLE postings(
  segment INTEGER, term BLOB, data BLOB NOT NULL, PRIMARY KEY (segment, term)) WITHOUT ROWID;
CREATE TABLE vector_sums(
  first INTEGER PRIMARY KEY, count INTEGER NOT NULL, crc32 INTEGER NOT NULL);
"""


def connect(folder: Path) -> sqlite3.Connection:
    """A connection in autocommit mode; transactions are begun and ended by name."""
    path = folder / DATABASE
    with explained(folder):
        try:
            return _prepared(_open(path))
        except sqlite3.OperationalError:
            # Without a write-ahead log nobody writes; a folder that cannot be written to, or a
            # full disk, has no room for the file that readers share.
            log = path.with_name(f"{DATABASE}-wal")
            if not path.is_file() or (log.exists() and log.stat().st_size):
                raise
            return _prepared(_open(f"{path.absolute().as_uri()}?immutable=1", uri=True))


def _open(path: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False, uri=uri
    )


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def create_tables(connection: sqlite3.Connection, settings: str) -> None:
    """Make an empty database a store, whole or not at all."""
    connection.execute("PRAGMA journal_mode=WAL")
    with transaction(connection, write=True):
        if connection.execute("PRAGMA user_version").fetchone()[0]:
            return
        for statement in TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO state VALUES (1, 0, 0, 0, 0, 1, 1, ?)", (settings,))
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={VERSION}")


def check_version(connection: sqlite3.Connection, folder: Path) -> None:
    """Raise InputError unless the database is a store this version reads."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    mine = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
    if not mine or found == 0:
        raise InputError(
            f"{folder / DATABASE} is no index of fledge", remedy="fledge index build makes one"
        )
    if found != VERSION:
        raise InputError(
            f"{folder / DATABASE} has format {found}, this fledge reads {VERSION}",
            remedy="use the fledge that made it, or build it again",
        )


@contextmanager
def transaction(connection: sqlite3.Connection, *, write: bool) -> Iterator[None]:
    """All of the block or nothing.  Writers wait for each other; a reader sees one state."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has rolled back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(folder: Path, *, disk: bool = True) -> Iterator[None]:
    """Errors of SQLite, and of the ``disk``, inside the block, as ones a user can act on."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        explanation = None if isinstance(error, OSError) and not disk else _explain(error, folder)
        if explanation is None:
            raise
        raise explanation from error


def _explain(error: sqlite3.Error | OSError, folder: Path) -> FledgeError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or code == sqlite3.SQLITE_FULL:
        return FledgeError(
            f"{folder}: the disk is full; what was committed before is whole",
            remedy="free some space and run the same command again",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return FledgeError(
            f"{folder}: another process has been writing for {BUSY_SECONDS:.0f} s",
            remedy="wait for it to finish and run the same command again",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(error, folder)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return FledgeError(
            f"{folder / DATABASE} cannot be opened or written ({error})",
            remedy="check the folder and its permissions",
        )
    if code == sqlite3.SQLITE_IOERR:
        return FledgeError(
            f"{folder}: reading or writing failed ({error}); what was committed before is whole",
            remedy="check the disk and the space left on it",
        )
    if type(error) is sqlite3.DatabaseError:  # raised by this package: parts that do not fit
        return _damaged(error, folder)
    return None


def _damaged(error: Exception, folder: Path) -> FledgeError:
    return FledgeError(
        f"the index in {folder} is damaged ({error})",
        remedy="restore it from a copy, or build it again with --force",
    )


def to_sql(text: str) -> str | bytes:
    """A text as a value: names of files may hold bytes that are no UTF-8, which stay themselves."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql(value: str | bytes) -> str:
    """The text that ``to_sql`` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
