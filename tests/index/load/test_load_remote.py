"""URLs, databases and APIs: read within limits, named without secrets."""

from __future__ import annotations

import gzip
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from loading import check
from made_pdf import paragraph, pdf

from fledge.core.errors import FledgeError, InputError
from fledge.index.load import LoadConfig, Source, discover, owner, parse_all
from fledge.index.load.config import Limits
from fledge.index.loaded import Loaded, Unreadable

PAGE = "<html><body><p>Die Brücke wurde im Mai eröffnet und trägt zwei Spuren.</p></body></html>"
RECORDS = [
    {"key": f"k{n}", "body": {"text": f"Record {n}."}, "name": f"N{n}", "n": n} for n in range(5)
]


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.server.seen.append((self.path, self.headers.get("Authorization", "")))  # type: ignore[attr-defined]
        answer = getattr(self, "answer_" + url.path.strip("/").replace(".", "_"), None)
        if answer is None:
            self.reply(404, b"no", "text/plain")
        else:
            answer(asked)

    def reply(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_page(self, _: Any) -> None:
        stamps = {"ETag": '"v1"', "Last_Modified": "Tue, 05 Mar 2024 10:00:00 GMT"}
        self.reply(200, PAGE.encode("latin-1"), "text/html; charset=ISO-8859-1", **stamps)

    def answer_paper(self, _: Any) -> None:
        self.reply(200, pdf([paragraph("The paper.")]), "application/pdf")

    def answer_moved(self, _: Any) -> None:
        self.reply(302, b"", "text/plain", Location="/page")

    def answer_round(self, _: Any) -> None:
        self.reply(302, b"", "text/plain", Location="/round")

    def answer_huge(self, _: Any) -> None:
        self.reply(200, gzip.compress(bytes(3_000_000)), "text/plain", Content_Encoding="gzip")

    def answer_slow(self, _: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        try:
            for _ in range(200):
                self.wfile.write(b"word ")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    def answer_linked(self, asked: dict[str, str]) -> None:
        start = int(asked.get("start", 0))
        following = f"/linked?start={start + 2}" if start + 2 < len(RECORDS) else None
        body = {"data": {"items": RECORDS[start : start + 2]}, "next": following}
        self.reply(200, json.dumps(body).encode(), "application/json")

    def answer_cursor(self, asked: dict[str, str]) -> None:
        start = int(asked.get("after", 0))
        more = start + 2 if start + 2 < len(RECORDS) else None
        body = {"data": {"items": RECORDS[start : start + 2]}, "meta": {"cursor": more}}
        self.reply(200, json.dumps(body).encode(), "application/json")

    def answer_paged(self, asked: dict[str, str]) -> None:
        start = 2 * (int(asked["page"]) - 1)
        self.reply(200, json.dumps(RECORDS[start : start + 2]).encode(), "application/json")

    def answer_fails(self, asked: dict[str, str]) -> None:
        if asked["page"] == "2":
            self.reply(500, b"", "text/plain")
        else:
            self.reply(200, json.dumps(RECORDS[:2]).encode(), "application/json")

    def answer_away(self, _: Any) -> None:
        body = {"data": {"items": RECORDS}, "next": "http://elsewhere.example/steal"}
        self.reply(200, json.dumps(body).encode(), "application/json")

    def answer_endless(self, _: Any) -> None:
        self.reply(
            200,
            json.dumps({"data": {"items": []}, "next": "/endless"}).encode(),
            "application/json",
        )

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def base(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def fetched(url: str, **limits: Any) -> Source | Unreadable:
    [item] = discover([url], LoadConfig(limits=Limits(**limits)))
    return item


def loaded(sources: list[Source | Unreadable]) -> list[Loaded]:
    documents = []
    for parsed in parse_all([item for item in sources if isinstance(item, Source)]):
        for item in parsed.items:
            check(item)
            assert isinstance(item, Loaded), item
            assert owner(item.document.id) == parsed.source.id
            documents.append(item)
    return documents


def test_a_page_is_read_as_its_server_says(server: ThreadingHTTPServer) -> None:
    url = base(server).replace("http://", "http://user:secret@")
    source = fetched(f"{url}/page?a=b!c#part")
    assert isinstance(source, Source)
    assert source.path == f"{base(server)}/page?a=b!c"
    assert source.id == f"{base(server)}/page?a=b%21c"
    assert source.stamp == '"v1"'
    [document] = loaded([source])
    assert document.document.text == "Die Brücke wurde im Mai eröffnet und trägt zwei Spuren."
    assert document.document.url == source.path
    assert document.document.date == "2024-03-05"


def test_redirects_and_other_formats(server: ThreadingHTTPServer) -> None:
    [page, paper] = loaded([fetched(f"{base(server)}/moved"), fetched(f"{base(server)}/paper")])
    assert page.document.text.startswith("Die Brücke")
    assert paper.document.text == "The paper."
    assert paper.places[0].label == "page 1"


def test_what_cannot_be_fetched_is_reported(server: ThreadingHTTPServer) -> None:
    def reason(path: str, **limits: Any) -> str:
        item = fetched(f"{base(server)}{path}", **limits)
        assert isinstance(item, Unreadable)
        check(item)
        return item.reason

    assert reason("/nothing") == "http"
    assert reason("/round") == "http"
    assert reason("/huge", file_bytes=1_000_000) == "too_large"
    assert reason("/slow", download_seconds=0.4) == "timeout"
    closed = fetched("http://127.0.0.1:9/x")
    assert isinstance(closed, Unreadable)
    assert closed.reason == "http"


def api(
    tmp_path: Path, server: ThreadingHTTPServer, path: str, more: str
) -> list[Source | Unreadable]:
    file = tmp_path / "wiki.api.toml"
    file.write_text(
        f'url = "{base(server)}{path}"\nname = "wiki"\nid = "key"\n'
        f'text = ["name", "body.text"]\n{more}'
    )
    return list(discover([str(file)], LoadConfig(limits=Limits(requests=20))))


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/linked", 'items = "data.items"\nnext = "next"'),
        ("/cursor", 'items = "data.items"\nnext = "meta.cursor"\ncursor = "after"'),
        ("/paged", 'page = "page"'),
    ],
)
def test_an_api_is_read_page_by_page(
    tmp_path: Path,
    server: ThreadingHTTPServer,
    path: str,
    more: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WIKI_TOKEN", "t0ken")
    sources = api(tmp_path, server, path, f'{more}\ntitle = "name"\ntoken_env = "WIKI_TOKEN"')
    documents = loaded(sources)
    assert [one.document.id for one in documents] == [f"api:wiki/k{n}" for n in range(5)]
    assert documents[3].document.text == "N3\n\nRecord 3."
    assert documents[3].document.metadata["title"] == "N3"
    assert documents[3].document.metadata["n"] == 3
    assert {token for _, token in server.seen} == {"Bearer t0ken"}  # type: ignore[attr-defined]
    again = api(tmp_path, server, path, f'{more}\ntitle = "name"\ntoken_env = "WIKI_TOKEN"')
    assert [s.digest() for s in again if isinstance(s, Source)] == [
        s.digest() for s in sources if isinstance(s, Source)
    ]


def test_an_api_that_fails_or_leads_away_is_an_error_not_a_deletion(
    tmp_path: Path, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FledgeError, match="500"):
        api(tmp_path, server, "/fails", 'page = "page"')
    with pytest.raises(FledgeError, match=r"another server, elsewhere\.example"):
        api(tmp_path, server, "/away", 'items = "data.items"\nnext = "next"')
    with pytest.raises(FledgeError, match="more than 20 pages"):
        api(tmp_path, server, "/endless", 'items = "data.items"\nnext = "next"')
    with pytest.raises(InputError, match=r"there is 'data', 'next'"):
        api(tmp_path, server, "/linked", 'items = "rows"')
    with pytest.raises(FledgeError, match="not JSON"):
        api(tmp_path, server, "/page", "")
    monkeypatch.delenv("WIKI_TOKEN", raising=False)
    with pytest.raises(InputError, match="WIKI_TOKEN"):
        api(tmp_path, server, "/linked", 'token_env = "WIKI_TOKEN"')
    with pytest.raises(InputError, match="'itemz'"):
        api(tmp_path, server, "/linked", 'itemz = "rows"')


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table notes (id, title, body, day, score)")
        rows = [
            (1, "Deck", "Closed on Monday.", "2024-02-03", 1.5),
            ("a#b", "橋", "鋼纜", None, None),
            (None, "no id", "text", None, 2),
            (1, "same id", "text", None, 3),
        ]
        database.executemany("insert into notes values (?, ?, ?, ?, ?)", rows)
        database.commit()
    return path


def query(
    path: Path, sql: str, rest: str = "&id=id&text=title,body&title=title&date=day&name=n"
) -> str:
    return f"sqlite:///{path}?query={quote(sql)}{rest}"


def test_rows_of_a_query_are_sources(notes: Path) -> None:
    items = list(discover([query(notes, "select * from notes")]))
    documents = loaded(items)
    assert [one.document.id for one in documents] == ["sqlite:n/1", "sqlite:n/a%23b"]
    first = documents[0].document
    assert first.text == "Deck\n\nClosed on Monday."
    assert first.date == "2024-02-03"
    assert first.metadata == {"format": "json", "title": "Deck", "id": 1, "day": "2024-02-03",
                              "score": 1.5, "date_from": "text"}  # fmt: skip
    assert [item.reason for item in items if isinstance(item, Unreadable)] == ["no_id", "same_id"]


def test_one_changed_row_is_one_changed_source(notes: Path) -> None:
    def look() -> dict[str, str]:
        items = discover([query(notes, "select * from notes")])
        return {item.id: item.digest() for item in items if isinstance(item, Source)}

    before = look()
    with closing(sqlite3.connect(notes)) as database:
        database.execute("update notes set body = 'Open.' where id = 1")
        database.commit()
    after = look()
    assert [id for id in before if before[id] != after[id]] == ["sqlite:n/1"]


def test_a_row_without_chosen_text_says_all_its_columns(notes: Path) -> None:
    url = query(notes, "select id, day, score from notes limit 1", "&id=id")
    [document] = loaded(list(discover([url])))
    assert document.document.text == "day: 2024-02-03\nid: 1\nscore: 1.5"
    assert document.document.id.startswith("sqlite:notes.db~")
    config = LoadConfig(text_keys=["other"])  # meant for JSON files, not for rows
    [source] = [
        s for s in discover([query(notes, "select * from notes limit 1")]) if isinstance(s, Source)
    ]
    [parsed] = parse_all([source], config)
    assert parsed.documents[0].document.text.startswith("Deck")


@pytest.mark.parametrize(
    "sql",
    [
        "delete from notes",
        "drop table notes",
        "attach '/tmp/x.db' as x",
        "pragma user_version = 3",
        "create table t (x)",
        "insert into notes values (9,9,9,9,9) returning *",
        "select load_extension('x')",
        "select writefile('/tmp/x', 'y')",
        "not sql",
    ],
)
def test_a_query_can_only_read(notes: Path, sql: str) -> None:
    before = notes.read_bytes()
    with pytest.raises(InputError):
        list(discover([query(notes, sql)]))
    assert notes.read_bytes() == before


def test_wrong_urls_name_what_is_wrong(notes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="id=nothing"):
        list(discover([query(notes, "select * from notes", "&id=nothing")]))
    with pytest.raises(InputError, match="'id' is missing"):
        list(discover([query(notes, "select * from notes", "")]))
    with pytest.raises(InputError, match="no database file"):
        list(discover([query(tmp_path / "no.db", "select 1 as id", "&id=id")]))
    assert not (tmp_path / "no.db").exists()


def test_a_query_without_end_is_stopped(notes: Path) -> None:
    counting = "with recursive r(id) as (select 1 union all select id + 1 from r)"
    endless = f"{counting} select max(id) as id from r"
    config = LoadConfig(limits=Limits(download_seconds=0.3))
    with pytest.raises(FledgeError, match="takes longer"):
        list(discover([query(notes, endless, "&id=id")], config))
