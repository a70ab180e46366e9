"""Readers: every format, every compression, and files that are not whole."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from web_pages import article, prose, warc

from fledge.core.errors import InputError
from fledge.data.formats import suffix
from fledge.data.inputs import expand_inputs
from fledge.data.read import read_file
from fledge.data.records import RawRecord, ReadNotes
from fledge.data.rows import row_record, select
from fledge.data.streams import Plain


def read(path: Path, **options: object) -> tuple[list[RawRecord], ReadNotes]:
    notes = ReadNotes()
    return list(read_file(path, path.name, notes, **options)), notes  # type: ignore[arg-type]


PAGES = [(f"https://a.example/{i}", article(f"Page {i}", prose(i))) for i in range(6)]


@pytest.mark.parametrize("packed", [True, False])
def test_warc_records_carry_url_and_offset(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("web.warc.gz" if packed else "web.warc")
    path.write_bytes(warc(PAGES, packed=packed))
    records, notes = read(path)
    assert [record.url for record in records] == [url for url, _ in PAGES]
    assert records[0].source == f"{path.name}#0"
    assert [r.content for r in records] == [page.encode() for _, page in PAGES]
    assert all(record.web and record.charset == "utf-8" for record in records)
    assert (notes.truncated, notes.damaged) == ([], [])
    if packed:  # the offset is that of the gzip member
        offset = int(records[3].source.split("#")[1])
        assert PAGES[3][0].encode() in gzip.decompress(path.read_bytes()[offset:])


def test_a_truncated_warc_keeps_whole_records_and_says_so(tmp_path: Path) -> None:
    whole = warc(PAGES)
    path = tmp_path / "web.warc.gz"
    for lost in (1, 9, 200, len(whole) // 2):
        path.write_bytes(whole[:-lost])
        records, notes = read(path)
        kept = [record for record in records if not record.problem]
        assert notes.truncated == ["web.warc.gz"], lost
        assert all(record.problem == "read.truncated" for record in records if record not in kept)
        bodies = [record.content for record in kept]
        assert bodies == [page.encode() for _, page in PAGES[: len(bodies)]]
        assert len(kept) >= (2 if lost > 1000 else 5)


def test_a_truncated_plain_warc_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "web.warc"
    path.write_bytes(warc(PAGES, packed=False)[:-600])
    records, notes = read(path)
    assert notes.truncated == ["web.warc"]
    assert sum(not record.problem for record in records) == 5


def test_a_damaged_middle_is_reported(tmp_path: Path) -> None:
    data = bytearray(warc(PAGES))
    middle = len(data) // 2
    data[middle : middle + 300] = os.urandom(300)
    path = tmp_path / "web.warc.gz"
    path.write_bytes(bytes(data))
    records, notes = read(path)
    assert notes.damaged or notes.truncated
    assert records[0].content == PAGES[0][1].encode()


def test_records_that_are_no_pages_are_skipped(tmp_path: Path) -> None:
    from web_pages import response

    data = (
        response("https://a.example/i.png", b"\x89PNG", "image/png")
        + response("https://a.example/robots.txt", b"User-agent: *", "text/plain")
        + response("https://a.example/", b"<p>Hi</p>").replace(b"200 OK", b"404 Not Found")
        + response("https://a.example/b", b"<p>Hi</p>")
    )
    path = tmp_path / "web.warc"
    path.write_bytes(data)
    records, notes = read(path)
    assert [record.url for record in records] == ["https://a.example/b"]
    assert notes.skipped_records == 3


def test_arc_files_are_read(tmp_path: Path) -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>Old page</p>"
    head = b"http://old.example/ 192.0.2.1 20080430204825 text/html %d\n" % len(body)
    version = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n"
    first = b"filedesc://x.arc 0.0.0.0 20080430204825 text/plain %d\n" % len(version)
    path = tmp_path / "old.arc.gz"
    path.write_bytes(gzip.compress(first + version + b"\n" + head + body + b"\n"))
    records, notes = read(path)
    assert [(r.url, r.content) for r in records] == [("http://old.example/", b"<p>Old page</p>")]
    assert not notes.damaged


def test_every_compression_reads_the_same(tmp_path: Path) -> None:
    data = "\n".join(json.dumps({"text": prose(i), "id": f"w{i}"}) for i in range(40)).encode()
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    )
    halves = data[:999], data[999:]
    variants = {
        "a.jsonl": data,
        "b.jsonl.gz": gzip.compress(data),
        "c.jsonl.zst": wide.compress(data),
        "d.jsonl.gz": gzip.compress(halves[0]) + gzip.compress(halves[1]) + b"\0" * 512,
        "e.jsonl.zst": b"".join(zstandard.ZstdCompressor().compress(half) for half in halves),
    }
    for name, content in variants.items():
        (tmp_path / name).write_bytes(content)
        records, notes = read(tmp_path / name)
        assert [r.content for r in records] == [prose(i) for i in range(40)], name
        assert [r.work for r in records] == [f"w{i}" for i in range(40)]
        assert not notes.truncated
        assert not notes.damaged


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_truncated_jsonl_keeps_whole_lines(tmp_path: Path, ending: str) -> None:
    lines = [json.dumps({"text": os.urandom(300).hex()}) for _ in range(2000)]
    data = "\n".join(lines).encode()
    packed = gzip.compress(data) if ending == "gz" else zstandard.ZstdCompressor().compress(data)
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    records, notes = read(path)
    good = [record for record in records if not record.problem]
    assert notes.truncated == [path.name]
    assert len(good) > 500
    assert [r.content for r in good] == [json.loads(line)["text"] for line in lines[: len(good)]]
    assert {r.problem for r in records} <= {"", "read.truncated"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_members_of_any_kind(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("set.tar" if mode == "w" else "set.tar.gz")
    members = {
        "html/a.html": article("A", prose(1)).encode(),
        "data/b.jsonl.gz": gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'),
        "web/c.warc.gz": warc(PAGES[:2]),
        "gold.json": b"{}",
    }
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    records, notes = read(path)
    assert len(records) == 1 + 2 + 2
    assert records[1].source == f"{path.name}!data/b.jsonl.gz#1"
    assert notes.skipped == [f"{path.name}!gold.json"]
    short = tmp_path / "short.tar.gz"
    if mode == "w:gz":
        short.write_bytes(path.read_bytes()[:-200])
        records, notes = read(short)
        assert records
        assert notes.truncated == ["short.tar.gz"]


def test_parquet_and_its_ruin(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["eins", "zwei"], "url": ["u1", "u2"]}), path)
    records, _ = read(path)
    assert [(r.content, r.url) for r in records] == [("eins", "u1"), ("zwei", "u2")]
    path.write_bytes(path.read_bytes()[:-20])
    records, notes = read(path)
    assert records == []
    assert len(notes.damaged) == 1


def test_rows_without_text_name_the_keys() -> None:
    with pytest.raises(InputError, match=r"'body_html', 'n'"):
        row_record({"body_html": "x", "n": 3}, "a.jsonl#1", ["text"])
    with pytest.raises(InputError, match="'n'"):
        row_record({"n": 3}, "a.jsonl#1", [])
    with pytest.raises(InputError, match="list is not a record"):
        row_record([1], "a.jsonl#1", [])


def test_a_bad_line_is_dropped_but_a_wrong_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n{broken\n{"n": 1}\n{"text": "fine"}\n')
    records, _ = read(path)
    assert [r.problem for r in records] == ["", "read.json", "read.no_text", ""]
    path.write_text('{"n": 1}\n{"text": "good"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl#1"):
        read(path)


def test_nested_records() -> None:
    row = {"doc": {"name": "Law", "articles": [{"no": 1, "text": "First."}, {"text": "Second."}]}}
    assert list(select(row, "doc.articles[].text")) == ["First.", "Second."]
    assert row_record(row, "x", ["doc.name", "doc.articles[].text"]).content == (
        "Law\nFirst.\nSecond."
    )
    found = row_record({"path": "x.json", "d": {"a": "A long enough text", "b": "no"}}, "x", [])
    assert found.content == "A long enough text"


def test_markup_in_a_row_is_html() -> None:
    record = row_record({"xhtml": '<?xml version="1.0"?>\n<html><p>x</p></html>'}, "x", [])
    assert (record.kind, record.web) == ("html", False)


def test_inputs_expand_and_fail_clearly(tmp_path: Path) -> None:
    for name in ("b/x.html", "b/y.txt.gz", "a.md", "b/LICENSE.md", ".hidden/z.html", "b/i.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    names = [path.relative_to(tmp_path).as_posix() for path in expand_inputs([tmp_path])]
    assert names == ["a.md", "b/x.html", "b/y.txt.gz"]
    assert [path.name for path in expand_inputs([f"{tmp_path}/**/*.html"])] == ["x.html"]
    assert len(expand_inputs([tmp_path, tmp_path / "a.md"])) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file"):
        expand_inputs([tmp_path / "empty"])
    with pytest.raises(InputError, match="matches no file"):
        expand_inputs(["/nowhere/*.html"])


def test_suffix_looks_below_compression() -> None:
    names = ["a.jsonl.zst", "A.HTML.GZ", "x.tar.zst", "x.tgz", "noext", "x.warc.gz.bad"]
    assert [suffix(name) for name in names] == [".jsonl", ".html", ".tar", ".tgz", "", ".warc"]


@given(st.binary(max_size=3000), st.sampled_from(["gz", "zst"]), st.integers(0, 200))
def test_inflate_gives_a_prefix_of_what_was_packed(data: bytes, kind: str, lost: int) -> None:
    pack = gzip.compress if kind == "gz" else zstandard.ZstdCompressor().compress
    packed = pack(data)
    cut = packed[: max(4, len(packed) - lost)]
    plain = Plain(io.BytesIO(cut))
    got = plain.stream.read()
    assert data.startswith(got)
    assert plain.truncated == (len(cut) < len(packed))
    assert plain.truncated or got == data
