"""Files that readers choke on: coded bodies, nested JSON, corrupt pages, names that repeat."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from pathlib import Path

import brotli
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from web_pages import article, prose, response, warc

from fledge.data.coding import decoded_body, joined_chunks
from fledge.data.read import read_file
from fledge.data.records import RawRecord, ReadNotes

PAGE = article("Story", prose(1)).encode()


def read(path: Path) -> tuple[list[RawRecord], ReadNotes]:
    notes = ReadNotes()
    return list(read_file(path, path.name, notes, limit=1_000_000)), notes


def chunked(body: bytes, size: int = 700) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def coded(headers: str, body: bytes) -> bytes:
    """A WARC record whose HTTP answer carries further headers."""
    return response("https://a.example/", body, f"text/html; charset=utf-8\r\n{headers}")


CHUNKED, DEFLATED = "Transfer-Encoding: chunked", zlib.compress(PAGE)
CODED = {
    "chunked": (CHUNKED, chunked(PAGE)),
    "chunked, gzip": (f"{CHUNKED}\r\nContent-Encoding: gzip", chunked(gzip.compress(PAGE))),
    "chunked, br": (f"{CHUNKED}\r\nContent-Encoding: br", chunked(brotli.compress(PAGE))),
    "br": ("Content-Encoding: br", brotli.compress(PAGE)),
    "gzip": ("Content-Encoding: gzip", gzip.compress(PAGE)),
    "zstd": ("Content-Encoding: zstd", zstandard.compress(PAGE)),
    "deflate": ("Content-Encoding: deflate", DEFLATED),
    "bare deflate": ("Content-Encoding: deflate", DEFLATED[2:-4]),
    "two": ("Content-Encoding: br, gzip", gzip.compress(brotli.compress(PAGE))),
    "stored joined": (CHUNKED, PAGE),
    "stored unpacked": ("Content-Encoding: gzip", PAGE),
    "stored without Brotli": ("Content-Encoding: br", PAGE),
    "stored without deflate": ("Content-Encoding: deflate", PAGE),
}


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("packed", [True, False])
def test_http_codings_are_taken_off(tmp_path: Path, name: str, packed: bool) -> None:
    record = coded(*CODED[name])
    path = tmp_path / "web.warc"
    path.write_bytes(gzip.compress(record) if packed else record)
    [page], notes = read(path)
    assert (page.content, page.problem) == (PAGE, "")
    assert (notes.truncated, notes.damaged) == ([], [])


@pytest.mark.parametrize("name", ["chunked", "chunked, gzip", "br", "gzip"])
def test_a_coded_record_cut_short_is_truncated_not_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / "web.warc"
    path.write_bytes(coded(*CODED[name])[:-300])
    [page], notes = read(path)
    assert page.problem == "read.truncated"
    assert notes.truncated == ["web.warc"]


def test_a_body_that_unpacks_to_too_much_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "web.warc"
    for name, pack in (("br", brotli.compress), ("deflate", zlib.compress)):
        path.write_bytes(coded(f"Content-Encoding: {name}", pack(b"a" * 50_000_000)))
        [page], _ = read(path)
        assert page.problem == "read.too_large"
        assert len(page.content) <= 1_000_001


@given(st.binary(max_size=2000), st.integers(1, 900))
def test_chunks_join_to_what_was_sent(body: bytes, size: int) -> None:
    assert joined_chunks(chunked(body, size)) == body


@given(st.binary(max_size=300), st.sampled_from(["", "chunked"]), st.text(max_size=12))
def test_any_body_under_any_header_is_read(body: bytes, transfer: str, content: str) -> None:
    for coding in (content, "br", "deflate", "gzip", "zstd"):
        assert isinstance(decoded_body(body, transfer, coding, 1000), bytes)


def test_a_warc_packed_as_one_member_names_each_page(tmp_path: Path) -> None:
    pages = [(f"https://a.example/{i}", article("T", prose(i))) for i in range(5)]
    path = tmp_path / "web.warc.gz"
    path.write_bytes(gzip.compress(warc(pages, packed=False)))
    records, notes = read(path)
    assert [record.url for record in records] == [url for url, _ in pages]
    assert len({record.id for record in records}) == 5
    assert (notes.truncated, notes.damaged) == ([], [])


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_members_of_one_name_are_two_records(tmp_path: Path) -> None:
    one = ("a.txt", b"first")
    path = tar(tmp_path / "set.tar", [one, ("2!a.txt", b"odd"), ("a.txt", b"second"), one])
    records, _ = read(path)
    assert [record.content for record in records] == [b"first", b"odd", b"second", b"first"]
    assert len({record.id for record in records}) == 4


def test_a_bad_last_line_in_a_tar_member_is_one_bad_record(tmp_path: Path) -> None:
    path = tar(tmp_path / "set.tar", [("a.jsonl", b'{"text": "good"}\n{"text": "cu')])
    records, _ = read(path)
    assert [record.problem for record in records] == ["", "read.json"]


def test_json_too_deep_is_a_bad_record(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    nested = '{"a":' * 400 + '["long enough to be text"]' + "}" * 400
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' + f'{{"text": {deep}}}\n{nested}\n' + '{"text": "two"}\n')
    records, _ = read(path)
    assert [record.problem for record in records][:2] == ["", "read.json"]
    assert [records[0].content, records[-1].content] == ["one", "two"]


def test_a_corrupt_parquet_page_ends_the_file_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [json.dumps(prose(i)) for i in range(3000)]
    pq.write_table(pa.table({"text": rows}), path, row_group_size=1000, compression="zstd")
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(bytes(data))
    records, notes = read(path)
    assert 0 < len(records) < 3000
    assert len(notes.damaged) == 1
    assert "a.parquet" in notes.damaged[0]
