"""Rows of a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from fledge.core.errors import InputError
from fledge.index.load import Source, discover, parse_all
from fledge.index.loaded import Unreadable

psycopg = pytest.importorskip("psycopg", reason="needs psycopg")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with a table of notes."""
    pgserver = pytest.importorskip("pgserver", reason="needs pgserver")
    with pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop") as running:
        url = running.get_uri()
        with psycopg.connect(url) as connection:
            connection.execute(
                "create table notes (id int, body text, day date, price numeric, data jsonb)"
            )
            first = "(1, 'Closed on Monday.', '2024-02-03', 1.50, '{\"a\": 1}')"
            others = "(2, '鋼纜', null, null, null), (null, 'no id', null, null, null)"
            connection.execute(f"insert into notes values {first}, {others}")
        yield url


def query(server: str, sql: str, rest: str = "&id=id&text=body&date=day&name=notes") -> str:
    return f"{server}{'&' if '?' in server else '?'}query={quote(sql)}{rest}"


@pytest.mark.slow
def test_rows_of_a_query_are_sources(server: str) -> None:
    items = list(discover([query(server, "select * from notes order by id")]))
    sources = [item for item in items if isinstance(item, Source)]
    assert [source.id for source in sources] == ["postgresql:notes/1", "postgresql:notes/2"]
    first, second = (parsed.documents[0].document for parsed in parse_all(sources))
    assert (first.text, first.date) == ("Closed on Monday.", "2024-02-03")
    assert first.metadata["price"] == "1.50"
    assert second.text == "鋼纜"
    assert [item.reason for item in items if isinstance(item, Unreadable)] == ["no_id"]


@pytest.mark.slow
@pytest.mark.parametrize("sql", ["delete from notes returning *", "drop table notes", "no sql"])
def test_a_query_can_only_read(server: str, sql: str) -> None:
    with pytest.raises(InputError, match="mend the URL or the query"):
        list(discover([query(server, sql)]))
    with psycopg.connect(server) as connection:
        assert connection.execute("select count(*) from notes").fetchone() == (3,)


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    url = "postgresql://me:secret@127.0.0.1:9/db?query=select+1+as+id&id=id"
    with pytest.raises(InputError) as raised:
        list(discover([url]))
    assert "secret" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)
