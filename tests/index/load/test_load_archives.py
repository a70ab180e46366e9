"""Archives: members are documents, nothing escapes, nothing explodes, nothing is half read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard
from loading import load, load_one, refusal
from made_office import docx, p, zipped

from fledge.index.load.config import Limits, LoadConfig
from fledge.index.loaded import Loaded, Unreadable

FILES = {"docs/a.md": b"# A", "docs/橋.txt": "橋樑".encode(), "b.docx": docx(p("Deck"))}


def tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            information = tarfile.TarInfo(name)
            information.size = len(content)
            information.mtime = 1_600_000_000
            archive.addfile(information, io.BytesIO(content))
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.zst": zstandard.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}


def texts(items: list[Loaded | Unreadable]) -> dict[str, str]:
    return {item.document.id: item.document.text for item in items if isinstance(item, Loaded)}


def reasons(items: list[Loaded | Unreadable]) -> dict[str, str]:
    return {item.path: item.reason for item in items if isinstance(item, Unreadable)}


@pytest.mark.parametrize("suffix", [".zip", *PACKERS])
def test_members_are_documents(suffix: str, tmp_path: Path) -> None:
    name = f"all{suffix}"
    content = zipped(FILES) if suffix == ".zip" else PACKERS[suffix](tar(FILES))
    path = tmp_path / name
    path.write_bytes(content)
    expected = {f"{name}!docs/a.md": "# A", f"{name}!docs/橋.txt": "橋樑", f"{name}!b.docx": "Deck"}
    assert texts(load(name, content)) == expected
    assert texts(load(name, path)) == expected
    first = load(name, content)[0]
    assert isinstance(first, Loaded)
    if suffix != ".zip":
        assert first.document.date == "2020-09-13"


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".zst", zstandard.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
    ],
)
def test_a_packed_file_keeps_its_id_and_is_what_it_was(
    suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    loaded = load_one(f"a.md{suffix}", pack(b"---\ntitle: T\n---\ntext"))
    assert (loaded.document.id, loaded.kind) == (f"a.md{suffix}", "markdown")
    cut = pack(os.urandom(5000).hex().encode())[:-900]
    assert refusal(f"a.txt{suffix}", cut).reason in ("truncated", "damaged")


def test_names_that_escape_links_and_hidden_members_are_reported() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        outside = ("../up.txt", "/etc/abs.txt", "a/../../b.txt")
        for name in (*outside, ".hidden/x.txt", "node_modules/x.js", "good.txt"):
            information = tarfile.TarInfo(name)
            information.size = 4
            archive.addfile(information, io.BytesIO(b"text"))
        kinds = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "dev": tarfile.CHRTYPE}
        for name, kind in kinds.items():
            information = tarfile.TarInfo(name)
            information.type = kind
            information.linkname = "/etc/passwd"
            archive.addfile(information)
    items = load("a.tar", out.getvalue())
    assert texts(items) == {"a.tar!good.txt": "text"}
    assert reasons(items) == {
        "a.tar!../up.txt": "escapes", "a.tar!/etc/abs.txt": "escapes",
        "a.tar!a/../../b.txt": "escapes",
        "a.tar!.hidden/x.txt": "hidden", "a.tar!node_modules/x.js": "skipped", "a.tar!soft": "link",
        "a.tar!hard": "link", "a.tar!dev": "unsupported",
    }  # fmt: skip
    items = load("a.zip", zipped({"..\\up.txt": b"text", "C:/x.txt": b"text", "good.txt": b"text"}))
    assert set(reasons(items).values()) == {"escapes"}
    assert len(reasons(items)) == 2
    information = zipfile.ZipInfo("soft.txt")
    information.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive_:
        archive_.writestr(information, "/etc/passwd")
    assert refusal("a.zip", out.getvalue()).reason == "link"


def test_names_that_come_twice_and_names_in_another_set() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "two")
    assert texts(load("a.zip", out.getvalue())) == {"a.zip!a.txt": "one", "a.zip!a.txt~2": "two"}
    name = "橋樑設計規範說明書.txt".encode("big5")
    plain = zipped({"x" * len(name): b"text"}).replace(b"x" * len(name), name)
    assert texts(load("a.zip", plain)) == {"a.zip!橋樑設計規範說明書.txt": "text"}


def test_one_damaged_member_is_reported_and_the_others_are_read() -> None:
    files = {"a.txt": os.urandom(400).hex().encode(), "b.txt": b"good"}
    whole = zipped(files)
    place = whole.index(b"a.txt") + 5 + 100
    spoilt = whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :]
    items = load("a.zip", spoilt)
    assert reasons(items) == {"a.zip!a.txt": "damaged"}
    assert texts(items) == {"a.zip!b.txt": "good"}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz"])
def test_a_tar_cut_short_is_refused_whole(suffix: str) -> None:
    files = {"a.txt": b"good", "b.txt": os.urandom(40_000).hex().encode()}
    whole = PACKERS[suffix](tar(files))
    item = refusal(f"a{suffix}", whole[: len(whole) * 2 // 3])
    assert item.reason in ("truncated", "damaged")


def test_an_encrypted_member_is_reported() -> None:
    whole = bytearray(zipped({"a.txt": b"text"}))
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    assert refusal("a.zip", bytes(whole)).reason == "encrypted"


def test_archives_nest_to_a_depth() -> None:
    inner = b"deep"
    name = "a.txt"
    for level in range(4):
        inner, name = zipped({name: inner}), f"{level}.zip"
    [item] = load("top.zip", inner)
    assert isinstance(item, Unreadable)
    assert item.reason == "too_deep"
    assert item.path == "top.zip!2.zip!1.zip!0.zip"
    config = LoadConfig(limits=Limits(depth=4))
    assert texts(load("top.zip", inner, config)) == {"top.zip!2.zip!1.zip!0.zip!a.txt": "deep"}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.zst", ".txt.gz"])
def test_a_bomb_is_stopped(suffix: str) -> None:
    zeros = bytes(60_000_000)
    if suffix == ".zip":
        content = zipped({"a.txt": zeros, "b.txt": b"good"})
    elif suffix == ".txt.gz":
        content = gzip.compress(zeros)
    else:
        content = PACKERS[suffix](tar({"a.txt": zeros}))
    items = load(f"a{suffix}", content)
    assert "bomb" in reasons(items).values()
    assert "limits.ratio = 200" in next(i.evidence for i in items if isinstance(i, Unreadable))
    assert texts(items) in ({}, {"a.zip!b.txt": "good"})


def test_what_all_members_unpack_to_is_limited_also_in_archives_inside() -> None:
    half = {f"{n}.txt": os.urandom(30_000).hex().encode() for n in range(4)}
    content = zipped({"in.zip": zipped(half), "too.zip": zipped(half)})
    config = LoadConfig(limits=Limits(unpacked_bytes=600_000))
    item = refusal("a.zip", content, config)  # nothing of it: half an archive is no archive
    assert (item.path, item.reason) == ("a.zip", "bomb")
    assert "limits.unpacked_bytes = 600,000" in item.evidence
    assert len(texts(load("a.zip", content))) == 8
    config = LoadConfig(limits=Limits(members=3))
    assert refusal("a.zip", content, config).reason == "too_large"


def test_a_sparse_member_is_held_to_the_limit() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        information = tarfile.TarInfo("huge.txt")
        information.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge.txt",
            "GNU.sparse.realsize": str(1 << 40),
        }  # fmt: skip
        body = b"0\n".ljust(512, b"\0")
        information.size = len(body)
        archive.addfile(information, io.BytesIO(body))
    config = LoadConfig(limits=Limits(file_bytes=1_000_000))
    [item] = load("a.tar", out.getvalue(), config)
    assert isinstance(item, Unreadable)
    assert item.reason in ("too_large", "damaged", "broken", "no_text")
