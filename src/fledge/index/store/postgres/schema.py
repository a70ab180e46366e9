"""The tables of an index on a PostgreSQL server, and connections to it.

``postgresql://user@host:port/database#name``: the fragment names the schema ("fledge" without
one), so that a database holds several indexes.  Passwords come from PGPASSWORD or ~/.pgpass, as for
``psql``: the URL is written into manifests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from fledge.core.errors import FledgeError, InputError

VERSION = 1

TABLES = """
CREATE TABLE state(
  version int NOT NULL, dimensions int NOT NULL, next_document bigint NOT NULL,
  settings text NOT NULL);
CREATE TABLE documents(
  number bigint PRIMARY KEY, id bytea NOT NULL, path bytea NOT NULL, kind bytea NOT NULL,
  url bytea NOT NULL, source bytea NOT NULL, lang bytea NOT NULL, date bytea NOT NULL,
  metadata bytea NOT NULL, hash text NOT NULL, fingerprint text NOT NULL,
  characters bigint NOT NULL, chunks int NOT NULL, searched int NOT NULL, places int NOT NULL);
CREATE UNIQUE INDEX documents_by_id ON documents(sha256(id));
CREATE TABLE texts(
  document bigint REFERENCES documents ON DELETE CASCADE, part int, packed int NOT NULL,
  data bytea NOT NULL, PRIMARY KEY (document, part));
CREATE TABLE boxes(
  document bigint REFERENCES documents ON DELETE CASCADE, part int, first bigint NOT NULL,
  last bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (document, part));
CREATE TABLE places(
  document bigint REFERENCES documents ON DELETE CASCADE, start_at bigint, end_at bigint NOT NULL,
  label bytea NOT NULL, PRIMARY KEY (document, start_at));
CREATE TABLE facts(
  document bigint REFERENCES documents ON DELETE CASCADE, field bytea NOT NULL, type text NOT NULL,
  content bytea, number numeric);
CREATE INDEX facts_by_field ON facts(field, type, document);
CREATE INDEX facts_by_document ON facts(document);
CREATE TABLE chunks(
  number bigint PRIMARY KEY, document bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
  start_at bigint NOT NULL, end_at bigint NOT NULL, level int NOT NULL, position int NOT NULL,
  parent bigint, heading bytea NOT NULL, terms int NOT NULL, checksum bigint NOT NULL,
  embedding vector);
CREATE INDEX chunks_by_document ON chunks(document, level);
CREATE INDEX chunks_by_parent ON chunks(parent) WHERE parent IS NOT NULL;
CREATE TABLE postings(
  term bytea, chunk bigint REFERENCES chunks ON DELETE CASCADE, count int NOT NULL,
  PRIMARY KEY (term, chunk));
CREATE INDEX postings_by_chunk ON postings(chunk);
"""


def psycopg() -> Any:
    """The package ``psycopg``."""
    try:
        import psycopg as library
    except ImportError:
        raise InputError(
            "an index on a PostgreSQL server needs the package psycopg, which is not installed",
            remedy="pip install 'fledge[postgres]'",
        ) from None
    return library


def split_url(url: str) -> tuple[str, str]:
    """The server's URL and the schema's name; raises InputError for one that cannot be meant."""
    parts = urlsplit(url)
    if parts.password:
        raise InputError(
            "the URL of the store has a password in it, and would be written into the manifest",
            remedy="set PGPASSWORD, or write it into ~/.pgpass",
        )
    name = parts.fragment or "fledge"
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise InputError(
            f"store = {url!r}: {name!r} cannot name an index",
            remedy="use up to 63 small letters, digits and _ behind the #",
        )
    return parts._replace(fragment="").geturl(), name


def connect(url: str) -> Any:
    """A connection in autocommit mode whose tables are those of the index."""
    server, name = split_url(url)
    library = psycopg()
    with explained(url):
        connection = library.connect(server, autocommit=True)
        # The name is checked above; SET takes no bound parameters.
        connection.execute(f"SET search_path TO {name}, public")
        connection.execute("SET client_min_messages TO warning")
        return connection


def create_tables(connection: Any, url: str, settings: str) -> None:
    """Make the schema, whole or not at all; one that is there stays as it is."""
    _, name = split_url(url)
    with explained(url), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fledge create'))")
        if is_there(connection, name):
            return
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
        connection.execute(TABLES)
        connection.execute("INSERT INTO state VALUES (%s, 0, 1, %s)", (VERSION, settings))


def is_there(connection: Any, name: str) -> bool:
    """Whether there is an index of that name."""
    query = "SELECT to_regclass(%s) IS NOT NULL"
    return bool(connection.execute(query, (f"{name}.state",)).fetchone()[0])


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Errors of the server inside the block, as ones a user can act on."""
    library = psycopg()
    try:
        yield
    except library.errors.DiskFull as error:
        raise FledgeError(
            f"{url}: the server's disk is full; what was committed before is whole",
            remedy="free some space and run the same command again",
        ) from error
    except library.OperationalError as error:
        raise FledgeError(
            f"{url}: the server cannot be reached or gave up ({str(error).strip()})",
            remedy="check the address, the password (PGPASSWORD) and the server's log",
        ) from error


def to_bytes(text: str) -> bytes:
    """A text as bytes: PostgreSQL's texts hold no NUL and no half characters."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(value: bytes) -> str:
    """The text that ``to_bytes`` was given."""
    return bytes(value).decode("utf-8", "surrogatepass")
