"""fledge index: what its commands print, their exit codes, and how soon a search answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fledge.cli.main import main

PAGES = {
    "arch.md": "# Arch bridges\n\nAn arch bridge carries its load as compression. "
    "The Chapel Bridge in Lucerne is of wood.\n",
    "zh.txt": "青马大桥是香港的一座悬索桥，主跨1377米。\n",
    "rows.jsonl": '{"id": "r1", "text": "A beam bridge rests on piers.", "year": 1999}\n'
    '{"id": "r2", "text": "A cable-stayed bridge hangs from towers.", "year": 2012}\n',
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEDGE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, text in PAGES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def fledge(capsys: Any, *words: object, code: int = 0) -> Any:
    """What a command prints on stdout (its object, with --json) or, on failure, on stderr."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    assert caught.value.code == code, printed.err
    if code == 2:
        return printed.err
    return json.loads(printed.out) if "--json" in words else printed.out


def build(capsys: Any, files: Path, out: Path, *more: object) -> Any:
    words = ("--input", files, "--out", out, "--embedder", "none", "--json", *more)
    return fledge(capsys, "index", "build", *words)


def test_build_search_update_verify_remove(tmp_path: Path, files: Path, capsys: Any) -> None:
    out = tmp_path / "index"
    assert build(capsys, files, out)["figures"]["index.new"] == 4

    found = fledge(capsys, "index", "search", out, "who carries compression?", "--json")
    assert found["query"] == "who carries compression?"
    first = found["hits"][0]
    assert list(first) == ["rank", "score", "path", "document", "start", "end", "text"]
    assert first["rank"] == 1
    assert first["path"].endswith("arch.md")
    assert (files / "arch.md").read_text()[first["start"] : first["end"]] == first["text"]

    (hit, *_) = fledge(capsys, "index", "search", out, "香港的悬索桥", "--json")["hits"]
    assert "青马大桥" in hit["text"]

    where = ("--where", "meta.year >= 2000")
    hits = fledge(capsys, "index", "search", out, "bridge", *where, "--json")["hits"]
    assert ["towers" in hit["text"] for hit in hits] == [True]
    assert fledge(capsys, "index", "search", out, "zzz", "--json")["hits"] == []

    (files / "zh.txt").unlink()
    figures = fledge(capsys, "index", "update", out, "--json")["figures"]
    assert (figures["index.removed"], figures["index.unchanged"]) == (1, 3)
    assert fledge(capsys, "index", "verify", out, "--json") == {"whole": True, "problems": []}

    stats = fledge(capsys, "index", "stats", out, "--json")
    assert (stats["documents"], stats["store"], stats["vectors"]) == (3, "sqlite", 0)
    fledge(capsys, "index", "remove", out, first["document"])
    assert fledge(capsys, "index", "stats", out, "--json")["documents"] == 2
    fledge(capsys, "index", "compact", out)
    assert "1 new" in fledge(capsys, "index", "update", out)  # its file is still there
    assert fledge(capsys, "index", "stats", out, "--json")["documents"] == 3


def test_people_can_read_it(tmp_path: Path, files: Path, capsys: Any) -> None:
    out = tmp_path / "index"
    (files / "broken.pdf").write_bytes(b"%PDF-1.4 and nothing more")
    words = ("--input", files, "--out", out, "--embedder", "none")
    printed = fledge(capsys, "index", "build", *words)
    assert "4 new, 0 changed" in printed
    assert "1 failed" in printed
    assert "broken.pdf: " in printed
    assert "the index holds 4 documents" in printed
    printed = fledge(capsys, "index", "search", out, "beam", "-k", "1")
    assert printed.startswith("1. ")
    assert "rests on piers" in printed
    assert "documents" in fledge(capsys, "index", "stats", out)
    assert fledge(capsys, "index", "verify", out).strip() == "whole"


def test_errors_name_the_remedy(tmp_path: Path, files: Path, capsys: Any) -> None:
    out = tmp_path / "index"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no index" in fledge(capsys, "index", "search", empty, "x", code=2)
    assert "manifest.json is missing" in fledge(capsys, "index", "update", empty, code=2)
    build(capsys, files, out)
    error = fledge(capsys, "index", "search", out, "x", "--where", "lang == zh", code=2)
    assert "expected a value, found '='" in error
    error = fledge(
        capsys, "index", "build", "--input", files, "--out", out, "--embedder", "none",
        "--set", "split.size=50", code=2,
    )  # fmt: skip
    assert "split.size = 200, now 50" in error
    assert "--force" in error
    (out / "calibration.json").write_text("{}")
    words = ("--input", files, "--out", out, "--embedder", "none", "--set", "split.size=50")
    with pytest.raises(SystemExit):
        main([str(word) for word in ("index", "build", *words, "--force")])
    assert "was of the former settings and is gone" in capsys.readouterr().err
    assert not (out / "calibration.json").exists()
    error = fledge(capsys, "index", "remove", out, "nothing", code=2)
    assert "no document 'nothing'" in error
    error = fledge(
        capsys, "index", "build", "--input", files, "--out", out, "--store", "redis", code=2
    )
    assert "'redis' is not known" in error
    words = ("--input", files, "--out", tmp_path / "pg", "--embedder", "none", "--store")
    error = fledge(capsys, "index", "build", *words, "postgresql://me:secret@host/db", code=2)
    assert "PGPASSWORD" in error
    assert "secret" not in error


def test_damage_is_exit_code_1(tmp_path: Path, files: Path, capsys: Any) -> None:
    import sqlite3

    out = tmp_path / "index"
    build(capsys, files, out)
    connection = sqlite3.connect(out / "index.db")
    with connection:
        connection.execute("UPDATE documents SET hash = 'x' WHERE number = 1")
    connection.close()
    printed = fledge(capsys, "index", "verify", out, code=1)
    assert "not what its hash" in printed
    assert printed.endswith("1 problems\n")


def test_a_search_imports_little(tmp_path: Path, files: Path, capsys: Any) -> None:
    out = tmp_path / "index"
    build(capsys, files, out)
    code = (
        "import sys; from fledge.cli.main import main\n"
        "try: main(['index', 'search', sys.argv[1], 'bridge', '--json'])\n"
        "finally: print([m for m in ('torch', 'pyarrow', 'transformers', 'pandas', 'lxml',"
        " 'trafilatura', 'lancedb') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["hits"]
    assert done.stderr.strip() == "[]"


def many(folder: Path, count: int, version: int) -> None:
    for at in range(count):
        text = f"Page {at} of version {version}.\n\n" + f"bridge{at} version{version} " * 80
        (folder / f"{at:04}.txt").write_text(text)


def started(words: list[str]) -> subprocess.Popen[bytes]:
    """A process of fledge that prints nothing."""
    return subprocess.Popen(
        [sys.executable, "-m", "fledge", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_builds(folder: Path, out: Path, times: int, count: int, capsys: Any) -> None:
    """Kill builds and updates at random moments; each leaves whole documents, the last all."""
    import random

    from fledge.index.store.opening import holds_store, open_store

    drawn, killed = random.Random(3), 0
    many(folder, count, 0)
    begun = time.monotonic()
    spare = out.with_name("spare")
    words = ["index", "build", "--input", str(folder), "--out", str(spare), "--embedder", "none"]
    assert started(words).wait() == 0
    seconds = time.monotonic() - begun
    for turn in range(times):
        many(folder, count, turn + 1)  # everything changes
        words = ["index", "build", "--input", str(folder), "--out", str(out), "--embedder", "none"]
        if turn % 2 and (out / "manifest.json").exists():
            words = ["index", "update", str(out)]
        process = started(words)
        time.sleep(drawn.uniform(0.3, 0.95) * seconds)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -9
        if not holds_store(out):
            continue
        store = open_store(out)
        assert store.verify() == []
        with store.snapshot() as snapshot:
            for known in snapshot.known():
                document = snapshot.document(known.id)
                assert document is not None
                versions = {word for word in document.text.split() if word.startswith("version")}
                assert len(versions - {"version"}) == 1, "two versions in one document"
        store.close()
    assert killed >= times // 2
    figures = build(capsys, folder, out)["figures"]
    assert figures["index.total.documents"] == count
    store = open_store(out)
    assert store.verify() == []
    with store.snapshot() as snapshot:
        for known in snapshot.known():
            document = snapshot.document(known.id)
            assert document is not None
            assert document.text == (folder / Path(known.path).name).read_text().strip()
    store.close()


def test_inputs_without_a_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ["index", "build", "--input", str(tmp_path / "empty"), "--out", str(tmp_path / "index")]
    done = subprocess.run(
        [sys.executable, "-m", "fledge", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "nothing was found to read" in done.stderr


def test_killed_builds_go_on(tmp_path: Path, files: Path, capsys: Any) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    kill_builds(folder, tmp_path / "index", 3, 150, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_killed_builds_go_on(tmp_path: Path, files: Path, capsys: Any) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    kill_builds(folder, tmp_path / "index", 30, 500, capsys)  # enough for several processes


def test_control_c_keeps_what_is_done(tmp_path: Path, files: Path) -> None:
    folder, out = tmp_path / "many", tmp_path / "index"
    folder.mkdir()
    many(folder, 3000, 1)
    words = ["index", "build", "--input", str(folder), "--out", str(out), "--embedder", "none"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fledge", *words], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not (out / "index.db").exists():
        time.sleep(0.05)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in error
    assert json.loads((out / "report.json").read_text())["figures"]["index.new"] < 3000
