"""What was embedded once is not embedded again, whoever was killed in between."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from recording_embedder import Recording

from fledge.core.errors import FledgeError
from fledge.core.protocols import Bar, Silent
from fledge.index.embed import default_cache
from fledge.index.embed.cache import SLICE, Cached


class Told(Silent):
    """Remembers bars and lines."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, float | None, float]] = []
        self.lines: list[str] = []

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        self.bars.append((label, total, done))
        return super().bar(label, total, unit, done)

    def say(self, line: str) -> None:
        self.lines.append(line)


TEXTS = [f"text number {n}" + " more" * (n % 7) for n in range(3 * SLICE)]


def test_equal_texts_are_embedded_once_and_all_get_their_vector() -> None:
    inner = Recording()
    vectors = Cached(inner, None).embed(["b", "a", "b", "b"])
    assert sorted(inner.calls[0]) == ["a", "b"]
    assert np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(vectors[1], Recording().embed(["a"])[0])


def test_vectors_outlive_the_process_to_the_bit(tmp_path: Path) -> None:
    first = Cached(Recording(), tmp_path / "kept.sqlite")
    before = first.embed(TEXTS)
    first.close()
    again = Recording()
    second = Cached(again, tmp_path / "kept.sqlite")
    assert np.array_equal(second.embed(TEXTS), before)
    assert again.calls == []
    second.embed([*TEXTS, "a new one"])
    assert again.calls == [["a new one"]]


def test_another_revision_is_embedded_anew(tmp_path: Path) -> None:
    Cached(Recording("one"), tmp_path / "kept.sqlite").embed(["a"])
    other = Recording("two")
    Cached(other, tmp_path / "kept.sqlite").embed(["a"])
    assert other.calls == [["a"]]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Cached(Recording(most=2 * SLICE), tmp_path / "kept.sqlite").embed(TEXTS)
    rest, told = Recording(), Told()
    whole = Cached(rest, tmp_path / "kept.sqlite", told).embed(TEXTS + TEXTS)
    assert sum(map(len, rest.calls)) == SLICE
    assert np.array_equal(whole[: len(TEXTS)], Recording().embed(TEXTS))


MANY = [f"text {n}" for n in range(40 * SLICE)]


class Slow(Recording):
    """Tells of each slice that it is asked for, and then takes its time."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = super().embed(texts)
        print("slice", flush=True)
        time.sleep(0.02)
        return vectors


def test_a_kill_loses_no_slice_that_was_done(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    code = (
        "from pathlib import Path; from test_cached_embedder import MANY, Cached, Slow\n"
        f"Cached(Slow(), Path({str(path)!r})).embed(MANY)"
    )
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **here}
    )
    assert process.stdout is not None
    for _ in range(4):  # when the fourth slice begins, three are kept
        assert process.stdout.readline() == b"slice\n"
    process.kill()
    process.wait()
    process.stdout.close()
    again = Recording()
    Cached(again, path).embed(MANY)
    kept = len(MANY) - sum(map(len, again.calls))
    assert kept >= 3 * SLICE
    assert kept % SLICE == 0


def test_long_work_is_shown_and_short_work_is_not(tmp_path: Path) -> None:
    told = Told()
    embedder = Cached(Recording(), tmp_path / "kept.sqlite", told)
    embedder.embed(TEXTS[:3])
    assert told.bars == []
    embedder.embed(TEXTS)
    assert told.bars == [("embed", len(TEXTS), 3)]


def test_slices_hold_texts_of_like_length() -> None:
    inner = Recording()
    Cached(inner, None).embed(TEXTS)
    lengths = [[len(text) for text in call] for call in inner.calls]
    assert [len(call) for call in lengths] == [SLICE] * 3
    assert all(min(a) >= max(b) for a, b in pairwise(lengths))


def _write(path: Path, number: int) -> None:
    embedder = Cached(Recording(), path)
    for start in range(0, 100, 10):
        embedder.embed([f"{number} {n}" for n in range(start, start + 10)] + ["shared"])
    embedder.close()


def test_processes_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_write, args=(path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM vectors").fetchone() == (301,)


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"this is no database " * 100)
    with pytest.raises(FledgeError, match=r"kept\.sqlite.*delete the file"):
        Cached(Recording(), path)


def test_a_full_disk_does_not_stop_the_work(tmp_path: Path) -> None:
    told = Told()
    embedder = Cached(Recording(), tmp_path / "kept.sqlite", told)
    assert embedder._kept is not None
    embedder._kept._file.execute("PRAGMA max_page_count = 4")  # SQLite says "disk is full"
    assert np.array_equal(embedder.embed(TEXTS), Recording().embed(TEXTS))
    assert len(told.lines) == 1
    assert "full" in told.lines[0]


def test_the_usual_file_is_in_the_home_of_fledge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEDGE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/embeddings.sqlite")
