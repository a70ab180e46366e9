"""What is read below a folder: pages, but neither fledge's own results nor other kinds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from web_pages import prose

from fledge.core.errors import InputError
from fledge.core.protocols import Silent
from fledge.data.config import CorpusConfig
from fledge.data.corpus import build_corpus, corpus_stats
from fledge.data.inputs import expand_inputs, scan_inputs


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(prose(len(name)))


def names(folder: Path, *inputs: str) -> list[str]:
    found = expand_inputs([folder / name for name in inputs] or [folder])
    return [path.relative_to(folder).as_posix() for path in found]


def test_own_results_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "runs/x/corpus/b.txt", "runs/x/report.html", "runs/x/notes.txt")
    write(tmp_path, "runs/x/tokens.partial/c.txt", "open/d.txt", ".git/e.txt", "f.txt.partial")
    (tmp_path / "runs/x/corpus/manifest.json").write_text('{"stage": "corpus", "key": "k"}')
    (tmp_path / "open/stage.json").write_text('{"key": "k"}')
    assert names(tmp_path) == ["a.txt", "runs/x/notes.txt"]
    assert names(tmp_path, "**/*.txt") == ["a.txt", "runs/x/notes.txt"]
    assert names(tmp_path, "runs/**/*") == ["runs/x/notes.txt"]
    assert names(tmp_path, "runs/x/corpus") == ["runs/x/corpus/b.txt"]  # named: meant
    assert names(tmp_path, "runs/*/corpus/*.txt") == ["runs/x/corpus/b.txt"]


@pytest.mark.parametrize("manifest", ["{", "[]", '{"name": "App", "icons": []}', "\ud800"])
def test_a_manifest_of_a_web_application_hides_nothing(tmp_path: Path, manifest: str) -> None:
    write(tmp_path, "app/a.html", "report.html")
    (tmp_path / "app/manifest.json").write_bytes(manifest.encode("utf-8", "surrogatepass"))
    assert names(tmp_path) == ["app/a.html", "report.html"]


def test_links_to_one_file_are_one_file(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]


def test_files_of_unknown_kind_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.pdf", "c.PDF", "d/e.docx", "README", ".hidden", "LICENSE")
    assert scan_inputs([tmp_path]).left_out == {".pdf": 2, "(no extension)": 1, ".docx": 1}
    assert scan_inputs([tmp_path / "a.txt"]).left_out == {}


class Spoken(Silent):
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_corpus_does_not_eat_itself_and_says_what_it_left(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.pdf", "c.pdf")
    out, progress = tmp_path / "out", Spoken()
    for _ in range(2):  # the second time its own documents lie below the input
        build_corpus(CorpusConfig(workers=1), [tmp_path], out, progress)
        stats = corpus_stats(out)
        assert (stats["records"], stats["kept"]) == (1, 1)
        assert stats["files"]["left_out_kinds"] == {".pdf": 2}
        (out / "manifest.json").write_text(json.dumps({"stage": "corpus", "key": "k"}))
        (out / "stats.json").unlink()
    assert any("2 files of unknown kind were left out: .pdf 2" in line for line in progress.lines)


def test_no_page_says_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"WARC/1.1\r\nWARC-Type: warcinfo\r\nContent-Le")
    write(tmp_path, "b.pdf")
    with pytest.raises(InputError, match=r"no page in 1 files.*\.pdf 1"):
        build_corpus(CorpusConfig(workers=1), [tmp_path], tmp_path / "out")


def test_no_page_names_files_that_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 40)[:60])
    with pytest.raises(InputError, match=r"no page in 1 files.*a\.tar\.gz ends too early"):
        build_corpus(CorpusConfig(workers=1), [path], tmp_path / "out")
