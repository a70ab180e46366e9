"""Kills, several processes at once, full disks, damage: nothing lost, nothing half, all told."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from store_child import check, version
from store_samples import entry

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import write_json
from fledge.index.store.opening import create_store, open_store
from fledge.index.store.sqlite.store import SqliteStore

CHILD = Path(__file__).with_name("store_child.py")


def child(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A process of store_child.py."""
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), *words], stdout=subprocess.PIPE, text=True
    )


def acknowledged(lines: str) -> dict[str, int]:
    """Id -> last version that was said to be committed; a line that was cut off counts not."""
    said: dict[str, int] = {}
    for line in lines.splitlines(keepends=True):
        words = line.split()
        if line.endswith("\n"):
            said |= {id: int(number) for id, number in zip(words[::2], words[1::2], strict=True)}
    return said


def kill_and_check(folder: Path, times: int, seed: int) -> None:
    """Kill a writer at a random moment, again and again; every acknowledged version is there."""
    drawn, said, killed = random.Random(seed), dict[str, int](), 0
    for _ in range(times):
        writer = child(folder, "write", "w", "1000000")
        assert writer.stdout is not None
        lines = writer.stdout.readline()
        time.sleep(drawn.uniform(0, 0.4))
        writer.kill()
        lines += writer.stdout.read()
        writer.stdout.close()
        killed += writer.wait() == -9
        said |= acknowledged(lines)
        store = open_store(folder)
        assert store.verify() == []
        with store.snapshot() as snapshot:
            found = check(snapshot)
        assert all(found[id] >= number for id, number in said.items())
        store.close()
    assert killed == times
    assert len(said) > 3


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    SqliteStore.create(tmp_path, {}).close()
    kill_and_check(tmp_path, 3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_kills(tmp_path: Path) -> None:
    SqliteStore.create(tmp_path, {}).close()
    kill_and_check(tmp_path, 30, seed=2)


@pytest.fixture(params=["lance", "postgres"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose index lies in another kind of store."""
    kind = request.param
    if kind == "postgres":
        kind = f"{request.getfixturevalue('postgres')}#f_{uuid4().hex}"
    else:
        pytest.importorskip("lancedb", reason="needs the extra lance")
    write_json(tmp_path / "manifest.json", {"store": kind})
    create_store(tmp_path, kind, {}).close()
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_other_stores_lose_nothing_either(elsewhere: Path) -> None:
    kill_and_check(elsewhere, 10, seed=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_other_stores_take_a_crowd(elsewhere: Path) -> None:
    crowd(elsewhere, 30, 10)


def crowd(folder: Path, commits: int, seconds: float) -> None:
    """Three processes write, three read; all documents of all of them are there at the end."""
    writers = [child(folder, "write", name, str(commits)) for name in ("a", "b", "c")]
    readers = [child(folder, "read", str(seconds)) for _ in range(3)]
    written = [process.communicate()[0] for process in writers]
    read = [process.communicate()[0] for process in readers]
    assert [process.returncode for process in (*writers, *readers)] == [0] * 6
    assert all(int(count) > 0 for count in read)
    store = open_store(folder)
    assert store.verify() == []
    with store.snapshot() as snapshot:
        found = check(snapshot)
    said = {id: number for lines in written for id, number in acknowledged(lines).items()}
    assert found == said
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_write_and_three_read(tmp_path: Path) -> None:
    SqliteStore.create(tmp_path, {}).close()
    crowd(tmp_path, 120, 15)


def test_some_write_while_others_read(tmp_path: Path) -> None:
    SqliteStore.create(tmp_path, {}).close()
    crowd(tmp_path, 12, 1.5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 4 MB; without the right to mount one the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs the right to mount a small disk")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_harms_nothing(small_disk: Path) -> None:
    folder = small_disk / "index"
    fill_up(SqliteStore.create(folder, {}), folder, lambda: None)


def test_a_file_that_may_not_grow_is_told_and_harms_nothing(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "index", {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        fill_up(
            store,
            tmp_path / "index",
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_up(store: SqliteStore, folder: Path, relieve: Callable[[], None]) -> None:
    """Commit until there is no room; what was committed stays, by the same store and by another."""
    done: dict[str, int] = {}
    error = ""
    for number in range(1, 10_000):
        try:
            store.commit([version("w", at, number) for at in range(12)])
        except FledgeError as caught:
            error = str(caught)
            break
        done = {f"w-{at}": number for at in range(12)}
    assert "disk is full" in error or "writing failed" in error
    assert "whole" in error
    assert done
    with store.snapshot() as snapshot:
        assert check(snapshot) == done
    assert store.verify() == []
    store.close()
    other = SqliteStore(folder)
    with other.snapshot() as snapshot:
        assert check(snapshot) == done
    assert other.verify() == []
    relieve()
    other.close()


def test_room_again_and_the_same_commit_goes_through(small_disk: Path) -> None:
    store = SqliteStore.create(small_disk / "index", {})
    ballast = small_disk / "ballast"
    store.commit([version("w", 0, 1)])
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(b"x" * (free - 50_000))
    large = [version("w", at, 6) for at in range(12)]
    with pytest.raises(FledgeError, match="disk is full"):
        store.commit(large)
    ballast.unlink()
    store.commit(large)
    assert store.verify() == []
    with store.snapshot() as snapshot:
        assert check(snapshot) == {f"w-{at}": 6 for at in range(12)}
    store.close()


def test_damage_is_found(tmp_path: Path) -> None:
    def whole() -> Path:
        folder = tmp_path / "index"
        shutil.rmtree(folder, ignore_errors=True)
        store = SqliteStore.create(folder, {})
        store.commit([entry(f"d{at}", "bridge steel river " * 30) for at in range(5)])
        store.close()
        return folder

    def sql(statement: str) -> Callable[[Path], None]:
        def damage(folder: Path) -> None:
            connection = sqlite3.connect(folder / "index.db")
            with connection:
                connection.execute(statement)
            connection.close()

        return damage

    def flip(folder: Path) -> None:
        path = folder / "vectors-0.f32"
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)

    def cut(folder: Path) -> None:
        path = folder / "vectors-0.f32"
        path.write_bytes(path.read_bytes()[:-1])

    damages: list[tuple[Callable[[Path], None], str]] = [
        (flip, "not what was written"),
        (cut, "cannot be read"),
        (lambda folder: (folder / "vectors-0.f32").unlink(), "cannot be read"),
        (sql("UPDATE documents SET hash = 'x' WHERE number = 1"), "not what its hash"),
        (sql("DELETE FROM texts WHERE key = (1 << 24)"), "not what its hash"),
        (sql("UPDATE texts SET data = x'00', packed = 1"), "cannot be unpacked"),
        (sql("DELETE FROM postings WHERE term = CAST('steel' AS BLOB)"), "inverted index"),
        (sql("UPDATE chunks SET slot = 0 WHERE slot = 1"), "belongs to another"),
        (sql("UPDATE chunks SET end = 10000 WHERE slot = 1"), "outside its document"),
        (sql("DELETE FROM chunks WHERE slot = 1"), "chunks are missing"),
        (sql("DELETE FROM documents WHERE number = 2"), "belong to no document"),
        (sql("DELETE FROM facts WHERE document = 3"), "filters see other fields"),
        (sql("DELETE FROM slots"), "slots: 0"),
    ]
    for damage, says in damages:
        folder = whole()
        damage(folder)
        store = SqliteStore(folder)
        problems = store.verify()
        assert any(says in line for line in problems), (says, problems)
        store.close()


def test_what_is_no_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no index"):
        open_store(tmp_path)
    (tmp_path / "index.db").write_bytes(b"")  # a creation that was killed
    with pytest.raises(InputError, match="holds no index"):
        open_store(tmp_path)
    (tmp_path / "index.db").write_text("not a database, but a text that is long enough " * 50)
    with pytest.raises(FledgeError, match="damaged"):
        open_store(tmp_path)
    (tmp_path / "index.db").unlink()
    connection = sqlite3.connect(tmp_path / "index.db")
    connection.execute("PRAGMA user_version=1")
    connection.execute("CREATE TABLE other(x)")
    connection.close()
    with pytest.raises(InputError, match="no index of fledge"):
        open_store(tmp_path)


def test_an_index_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    store = SqliteStore.create(folder, {})
    store.commit([version("w", 1, 1)])
    store.close()
    code = (  # as root every folder can be written, so the reader is somebody else
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from store_child import check; from fledge.index.store.opening import open_store;"
        "import mmap, fledge.index.store.sqlite.store;"
        "os.geteuid() or os.setuid(65534);"
        "s = open_store(Path(sys.argv[1])).snapshot(); print(check(s.__enter__()))"
    )
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/") and "pytest" in str(path):
            path.chmod(0o755)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(CHILD.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    folder.chmod(0o755)
    assert done.stdout.strip() == "{'w-1': 1}", done.stderr
