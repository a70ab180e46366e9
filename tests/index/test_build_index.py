"""Building and bringing up to date: what is read, embedded, kept and removed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from build_samples import TEXTS, CountingEmbedder, NoEmbedder, write_files

from fledge.core.errors import InputError
from fledge.index.config import IndexConfig
from fledge.index.folder import build_index, recorded_config
from fledge.index.load.source import Source
from fledge.index.loaded import Unreadable
from fledge.index.store.opening import open_store


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return write_files(tmp_path / "files")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "index"


def config(files: Path, **values: Any) -> IndexConfig:
    return IndexConfig.model_validate({"input": [str(files)], "embedder": "counting", **values})


def texts(out: Path) -> dict[str, str]:
    """Id -> text of all documents; every chunk, place and vector checked on the way."""
    store = open_store(out)
    assert store.verify() == []
    found = {}
    with store.snapshot() as snapshot:
        for known in snapshot.known():
            document = snapshot.document(known.id)
            assert document is not None
            numbers = snapshot.of_document(known.id)
            assert len(numbers) == known.chunks
            assert all(seen.span.quote(document) == seen.text for seen in snapshot.chunks(numbers))
            found[known.id] = document.text
            seen = [each.text for each in snapshot.chunks(numbers)]
            if snapshot.sizes().dimensions and seen:
                wanted = CountingEmbedder().embed_queries(seen)
                assert snapshot.vectors(numbers) == pytest.approx(wanted)
    store.close()
    return found


def test_a_build_holds_what_the_files_hold(files: Path, out: Path) -> None:
    embedder = CountingEmbedder()
    report = build_index(config(files), out, embedder)
    found = texts(out)
    assert len(found) == 5
    assert any("青马大桥" in text for text in found.values())
    assert {"First note on rivers.", "Second note on piers."} <= {t.strip() for t in found.values()}
    assert (report.new, report.changed, report.removed, report.failed) == (5, 0, 0, [])
    assert report.embedded == report.chunks == len(embedder.asked)
    written = json.loads((out / "report.json").read_text())
    assert written["figures"]["index.new"] == 5
    assert written["figures"]["index.total.documents"] == 5
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["input"] == [str(files)]
    assert manifest["settings"]["embedder"]["revision"] == "1"
    assert manifest["finished"]


def test_nothing_new_is_nothing_to_do(files: Path, out: Path, monkeypatch: Any) -> None:
    build_index(config(files), out, CountingEmbedder())
    before = texts(out)
    embedder = CountingEmbedder()
    with monkeypatch.context() as patched:
        patched.setattr(Source, "digest", None)  # not even read
        report = build_index(config(files), out, embedder)
    assert (report.unchanged, report.new, report.changed, embedder.asked) == (5, 0, 0, [])
    for path in files.rglob("*"):
        os.utime(path)  # touched, not changed: read to see that, and left
    report = build_index(config(files), out, embedder)
    assert (report.unchanged, report.changed, embedder.asked) == (5, 0, [])
    assert texts(out) == before


def test_changed_files_are_read_again_and_only_new_chunks_embedded(files: Path, out: Path) -> None:
    build_index(config(files, split={"strategy": "heading"}), out, CountingEmbedder())
    (files / "a.md").write_text(TEXTS["a.md"].replace("came later", "came in 1883"))
    (files / "b.txt").unlink()
    (files / "new.txt").write_text("A new page about piers.")
    (files / "notes.jsonl").write_text('{"id": "n2", "text": "Second note on piers."}\n')
    embedder = CountingEmbedder()
    report = build_index(config(files, split={"strategy": "heading"}), out, embedder)
    found = texts(out)
    assert len(found) == 4
    assert not any("Golden Gate" in text or "rivers" in text for text in found.values())
    assert (report.new, report.changed, report.unchanged) == (1, 2, 1)
    assert report.removed == 2
    assert len(embedder.asked) == 2  # the changed section, the new page
    assert report.reused == 2  # the other section, the second note


def test_what_cannot_be_read_keeps_its_former_version(files: Path, out: Path) -> None:
    build_index(config(files), out, CountingEmbedder())
    before = texts(out)
    (files / "a.md").write_bytes(b"\x00\x01\x02\xff" * 500)
    (files / "notes.jsonl").write_text('{"id": "n1", "text": "cut o')
    report = build_index(config(files), out, CountingEmbedder())
    failed = {Path(each.path).name for each in report.failed}
    assert {name.split("#")[0] for name in failed} == {"a.md", "notes.jsonl"}
    assert texts(out) == before
    written = json.loads((out / "report.json").read_text())
    assert sum(written["reasons"].values()) == len(report.failed)
    write_files(files)
    report = build_index(config(files), out, CountingEmbedder())
    assert report.failed == []
    assert texts(out) == before


def test_a_document_that_cannot_be_cut_is_reported(
    files: Path, out: Path, monkeypatch: Any
) -> None:
    from fledge.index import cutting

    real = cutting.split

    def split(loaded: Any, *rest: Any, **more: Any) -> Any:
        if loaded.path.endswith("b.txt"):
            raise RecursionError("too deep")
        return real(loaded, *rest, **more)

    build_index(config(files), out, CountingEmbedder())
    before = texts(out)
    (files / "b.txt").write_text("changed")
    monkeypatch.setattr(cutting, "split", split)
    report = build_index(config(files), out, CountingEmbedder())
    assert [each.reason for each in report.failed] == ["split_failed"]
    assert texts(out) == before
    monkeypatch.setattr(cutting, "split", real)
    assert build_index(config(files), out, CountingEmbedder()).changed == 1


def test_a_source_half_done_is_done_again(files: Path, out: Path, monkeypatch: Any) -> None:
    from fledge.index import staging

    monkeypatch.setattr(staging.Stage, "_full", lambda self: True)  # a commit for each document
    rows = "".join(f'{{"id": "r{at}", "text": "row number {at}"}}\n' for at in range(6))
    (files / "notes.jsonl").write_text(rows.replace("number 4", "explode"))
    with pytest.raises(ConnectionError):
        build_index(config(files), out, CountingEmbedder())
    half = texts(out)
    assert 0 < sum("row number" in text for text in half.values()) < 6
    (files / "notes.jsonl").write_text(rows)
    report = build_index(config(files), out, CountingEmbedder())
    assert report.unchanged >= 1
    assert sum("row number" in text for text in texts(out).values()) == 6


def test_an_interrupt_keeps_what_is_committed(files: Path, out: Path, monkeypatch: Any) -> None:
    from fledge.index import build, staging

    monkeypatch.setattr(staging.Stage, "_full", lambda self: True)
    real = build.parse_all

    def parse_all(*given: Any) -> Any:
        for number, parsed in enumerate(real(*given)):
            if number == 2:
                raise KeyboardInterrupt
            yield parsed

    monkeypatch.setattr(build, "parse_all", parse_all)
    with pytest.raises(KeyboardInterrupt):
        build_index(config(files), out, CountingEmbedder())
    assert json.loads((out / "report.json").read_text())["figures"]["index.new"] == 2
    assert json.loads((out / "manifest.json").read_text())["finished"] is None
    assert len(texts(out)) == 2
    monkeypatch.setattr(build, "parse_all", real)
    report = build_index(config(files), out, CountingEmbedder())
    assert (report.new, report.unchanged) == (3, 2)


def test_other_settings_are_refused_and_force_builds_anew(files: Path, out: Path) -> None:
    build_index(config(files), out, CountingEmbedder())
    before = texts(out)
    with pytest.raises(InputError, match=r"split.size = 200, now 50.*--force"):
        build_index(config(files, split={"size": 50}), out, CountingEmbedder())
    with pytest.raises(InputError, match="the embedder 'counting'"):
        build_index(config(files), out, CountingEmbedder("2"))
    with pytest.raises(InputError, match="now 'none'"):
        build_index(config(files, embedder="none"), out, NoEmbedder())
    assert texts(out) == before

    held = open_store(out)
    with held.snapshot() as snapshot:
        report = build_index(config(files, split={"size": 5}), out, CountingEmbedder(), force=True)
        assert len(list(snapshot.known())) == 5  # who reads goes on reading
        assert all(snapshot.document(known.id) for known in snapshot.known())
    held.close()
    assert report.new == 5
    assert texts(out) == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["files", "index"]
    assert build_index(config(files, split={"size": 5}), out, CountingEmbedder()).unchanged == 5


def test_a_rebuild_that_fails_leaves_the_index(files: Path, out: Path) -> None:
    build_index(config(files), out, CountingEmbedder())
    before = texts(out)
    (files / "b.txt").write_text("explode")
    with pytest.raises(ConnectionError):
        build_index(config(files, split={"size": 5}), out, CountingEmbedder(), force=True)
    assert texts(out) == before


def test_one_build_at_a_time(files: Path, out: Path) -> None:
    class Greedy(CountingEmbedder):
        def embed(self, texts: Any) -> Any:
            with pytest.raises(InputError, match="another process"):
                build_index(config(files), out, CountingEmbedder())
            return super().embed(texts)

    assert build_index(config(files), out, Greedy()).new == 5


def test_the_index_does_not_index_itself(files: Path) -> None:
    out = files / "index"
    build_index(config(files), out, CountingEmbedder())
    assert len(texts(out)) == 5
    assert build_index(config(files), out, CountingEmbedder()).unchanged == 5
    assert len(texts(out)) == 5


def test_a_folder_of_other_things_is_left_alone(files: Path) -> None:
    with pytest.raises(InputError, match="not empty"):
        build_index(config(files), files, CountingEmbedder())


def test_update_knows_the_inputs_from_anywhere(
    tmp_path: Path, files: Path, out: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = IndexConfig.model_validate({"input": ["files"], "split": {"size": 50}})
    build_index(relative, out, NoEmbedder())
    before = texts(out)
    assert recorded_config(out) == relative
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    report = build_index(recorded_config(out), out, NoEmbedder())
    assert report.unchanged == 5
    assert texts(out) == before
    with pytest.raises(InputError, match=r"manifest.json is missing"):
        recorded_config(elsewhere)


def test_words_alone_need_no_embedder(files: Path, out: Path) -> None:
    build_index(config(files, embedder="none"), out, NoEmbedder())
    assert not list(out.glob("vectors*"))
    store = open_store(out)
    with store.snapshot() as snapshot:
        (hit,) = snapshot.matching(["香港"], 5)
        assert "香港" in snapshot.chunks([hit.chunk])[0].text
    store.close()


def test_a_member_that_fails_keeps_its_version_while_others_change() -> None:
    from fledge.index.changes import concerns

    failure = Unreadable(path="in/a.zip!b.txt", reason="damaged")
    assert concerns(failure, "in/a.zip!b.txt")
    assert not concerns(failure, "in/a.zip!b.txt.bak")
    assert concerns(Unreadable(path="in/a.zip", reason="damaged"), "in/a.zip!b.txt")
    assert concerns(Unreadable(path="in/folder/", reason="denied"), "in/folder/x")
    assert not concerns(Unreadable(path="in/folder", reason="denied"), "in/folder2")


def test_much_rubbish_is_compacted(tmp_path: Path, out: Path, monkeypatch: Any) -> None:
    from fledge.index import build

    monkeypatch.setattr(build, "DEAD", 10)
    files = write_files(tmp_path / "many", {f"{at}.txt": f"page {at}" for at in range(30)})
    build_index(config(files), out, CountingEmbedder())
    for at in range(20):
        (files / f"{at}.txt").unlink()
    build_index(config(files), out, CountingEmbedder())
    store = open_store(out)
    with store.snapshot() as snapshot:
        assert (snapshot.sizes().chunks, snapshot.sizes().dead) == (10, 0)
    store.close()
    assert len(texts(out)) == 10


def test_processes_cut_as_one_does(tmp_path: Path, out: Path, monkeypatch: Any) -> None:
    from fledge.index import cutting

    files = write_files(tmp_path / "many", {f"{at:03}.txt": f"page {at} " * 9 for at in range(90)})
    monkeypatch.setattr(cutting, "usable_cores", lambda: 2)
    monkeypatch.setattr(cutting, "MANY", 10)
    monkeypatch.setattr(cutting, "CHARACTERS", 700)
    assert build_index(config(files), out, CountingEmbedder()).new == 90
    several = texts(out)
    shutil.rmtree(out)
    monkeypatch.setattr(cutting, "MANY", 1000)
    build_index(config(files), out, CountingEmbedder())
    assert texts(out) == several
    assert len(several) == 90


def test_what_the_folder_lists_does_not_depend_on_order(files: Path, out: Path) -> None:
    build_index(config(files), out, CountingEmbedder())
    one = texts(out)
    shutil.rmtree(out)
    both = config(files).model_copy(update={"input": [str(files), str(files)]})
    build_index(both, out, CountingEmbedder())
    assert texts(out) == one
