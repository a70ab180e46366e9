"""Sandboxes as one uses them: endings, limits, repetition, threads, refusal."""

from __future__ import annotations

import builtins
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from fledge.cli.doctor import findings
from fledge.cli.main import fledge as doors
from fledge.core.errors import FledgeError, InputError
from fledge.guard import bubblewrap, landlock, process, sandbox
from fledge.guard.exam import ExaminingSandbox, run_tests
from fledge.guard.limits import SandboxLimits
from fledge.guard.sandbox import KINDS, choose_sandbox


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest) -> Iterator[ExaminingSandbox]:
    """Each kind that works here; the others are skipped with the reason."""
    yield from opened(request.param)


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def full(request: pytest.FixtureRequest) -> Iterator[ExaminingSandbox]:
    """Kinds that run all of Python."""
    yield from opened(request.param)


def opened(kind: str) -> Iterator[ExaminingSandbox]:
    try:
        sandbox = choose_sandbox(kind)
    except FledgeError as error:
        pytest.skip(str(error))
    yield sandbox
    sandbox.close()


ENDINGS = [
    ("print('hi')", "finished", "hi\n", ""),
    ("", "finished", "", ""),
    ("print('中文 🙂')", "finished", "中文 🙂\n", ""),
    ("print(1)\ndef f():\n    return 1 / 0\nf()", "raised", "1\n", "ZeroDivisionError"),
    ("def f(:", "raised", "", "SyntaxError"),
    ("raise ValueError('no 7')", "raised", "", "ValueError: no 7"),
    ("x = [0] * 10**10", "out_of_memory", "", "Memory"),
    ("print(1)\nwhile True: pass", "timed_out", "1\n", "not done within 1 s"),
    ("print('\0')", "refused", "", "NUL"),
    ("x = '\ud800'", "refused", "", "Unicode"),
    ("#" * (2 << 20), "refused", "", "2,097,152 bytes"),
]


@pytest.mark.parametrize(("code", "ending", "stdout", "error"), ENDINGS)
def test_how_code_ends(
    made: ExaminingSandbox, code: str, ending: str, stdout: str, error: str
) -> None:
    done = made.run(code, timeout_seconds=1)
    assert (done.ending, done.stdout) == (ending, stdout)
    assert error in done.error
    assert done.seconds < 4


def test_the_traceback_is_that_of_the_code(full: ExaminingSandbox) -> None:
    done = full.run("def f():\n    return 1 / 0\nf()", timeout_seconds=5)
    assert done.error.count("File ") == 2
    assert 'File "code.py", line 2, in f\n    return 1 / 0' in done.error


def test_exits(full: ExaminingSandbox) -> None:
    assert full.run("exit()", timeout_seconds=5).ending == "finished"
    assert full.run("import sys; sys.exit(0)", timeout_seconds=5).ending == "finished"
    left = full.run("import sys; sys.exit('no')", timeout_seconds=5)
    assert (left.ending, left.error) == ("raised", "SystemExit: no")
    left = full.run("import os; print(1, flush=True); os._exit(3)", timeout_seconds=5)
    assert (left.ending, left.error, left.stdout) == ("crashed", "left with exit code 3", "1\n")
    dead = full.run("import ctypes; ctypes.string_at(0)", timeout_seconds=5)
    assert (dead.ending, dead.error) == ("crashed", "killed by SIGSEGV")


def test_output_is_cut_where_the_limit_says(made: ExaminingSandbox) -> None:
    done = made.run("print('ab' * 100_000)\nprint('end')", timeout_seconds=5)
    assert done.ending == "finished"
    assert done.cut
    assert done.stdout == "ab" * (32 << 10)
    assert not made.run("print('x')", timeout_seconds=5).cut


def test_full_python(full: ExaminingSandbox) -> None:
    """The standard library, numpy, generators, asyncio."""
    code = """
import asyncio, collections, dataclasses, decimal, fractions, hashlib, heapq, json, math, re
import sqlite3, statistics, typing, unittest, zlib
import numpy as np
async def main():
    await asyncio.sleep(0.01)
    return sum(x for x in range(5))
print(asyncio.run(main()), int(np.linalg.det(np.eye(3) * 2) + 0.5), fractions.Fraction(1, 3))
"""
    done = full.run(code, timeout_seconds=20)
    assert (done.ending, done.stdout) == ("finished", "10 8 1/3\n"), done


def test_scratch_files_and_threads_in_bubblewrap() -> None:
    [made] = list(opened("bubblewrap"))[:1]
    code = """
import os, tempfile, threading
with tempfile.TemporaryDirectory() as folder:
    open(folder + "/a", "w").write("kept")
    os.rename(folder + "/a", folder + "/b")
    thread = threading.Thread(target=lambda: print(open(folder + "/b").read()))
    thread.start(); thread.join()
print(os.listdir("."), os.getcwd())
"""
    done = made.run(code, timeout_seconds=10)
    assert done.stdout == "kept\n[] /scratch\n", done


def test_nothing_stays_between_runs(made: ExaminingSandbox) -> None:
    made.run("import math\nmath.pi = 3\nx = 1\nprint(x)", timeout_seconds=5)
    made.run("open('left', 'w').write('x')", timeout_seconds=5)
    assert made.run("print(x)", timeout_seconds=5).ending == "raised"
    assert made.run("print(open('left').read())", timeout_seconds=5).ending == "raised"
    assert made.run("import math\nprint(math.pi > 3)", timeout_seconds=5).stdout == "True\n"


def test_equal_code_gives_equal_results(made: ExaminingSandbox) -> None:
    code = "import random\nprint(set('abcdefgh'))"
    code += "" if made.name != "monty" else "\nprint(random.random())"
    first, second = (made.run(code, timeout_seconds=5) for _ in range(2))
    assert first.stdout == second.stdout != ""


def world() -> tuple[set[str], set[str], set[str]]:
    """(processes below this one, open files, files of the temporary folder that are ours)."""
    own = str(os.getpid())
    processes = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if words[1] == own:
            processes.add(path.parent.name)
    return processes, set(os.listdir("/proc/self/fd")), set(os.listdir("."))


@pytest.mark.parametrize("runs", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_many_runs_leave_nothing(
    kind: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [made] = list(opened(kind))[:1]
    codes = ["print(1)", "1 / 0", "import os\nos._exit(1)", "while True: print('x' * 1000)"]
    made.run(codes[0], timeout_seconds=5)
    before, threads = world(), threading.active_count()
    for number in range(runs):
        made.run(codes[number % 3 if number % 50 != 10 else 3], timeout_seconds=0.3)
    assert world() == before or made.name == "monty"  # whose killed workers are replaced
    assert threading.active_count() <= threads + 1
    made.close()
    processes, files, folder = world()
    assert processes <= before[0]
    assert len(files) <= len(before[1])
    assert folder == before[2]


def test_eight_threads_at_once(made: ExaminingSandbox) -> None:
    def one(number: int) -> tuple[str, bool]:
        done = made.run(f"print({number} ** 2)", timeout_seconds=20)
        code = f"def f(x):\n    return x + {number}"
        report = run_tests(made, code, [f"assert f(1) == {number + 1}"], timeout_seconds=20)
        return done.stdout, report.passed

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(24)))
    assert found == [(f"{number**2}\n", True) for number in range(24)]


def test_slow_code_does_not_hold_up_the_others(full: ExaminingSandbox) -> None:
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(full.run, "import time\ntime.sleep(3)", timeout_seconds=10)
        time.sleep(0.2)
        assert full.run("print(1)", timeout_seconds=2).stdout == "1\n"
        assert not slow.done()


def test_memory_is_what_was_asked_for(full: ExaminingSandbox) -> None:
    code = "x = bytearray(300 << 20)\nprint(len(x) >> 20)"
    assert full.run(code, timeout_seconds=10).stdout == "300\n"
    tight = choose_sandbox(full.name, SandboxLimits(memory_bytes=128 << 20))
    done = tight.run(code, timeout_seconds=10)
    assert (done.ending, done.stdout) == ("out_of_memory", "")
    assert "134 MB" in done.error


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with a remedy for each kind, and never by ``exec``."""
    ran: list[object] = []
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: None)
    monkeypatch.setattr(landlock, "landlock_version", lambda: 0)
    monkeypatch.setitem(__import__("sys").modules, "pydantic_monty", None)
    for kind, remedy in (
        ("monty", "pip install 'fledge\\[sandbox\\]'"),
        ("bubblewrap", "apt-get install bubblewrap"),
        ("landlock", "install bubblewrap"),
        ("auto", "pip install 'fledge\\[sandbox\\]', or apt-get install bubblewrap"),
        ("full", "apt-get install bubblewrap"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "exec", lambda *code: ran.append(code))
            with pytest.raises(InputError, match=remedy):
                choose_sandbox(kind)
    assert ran == []
    rows = [row for row in findings() if row.name.startswith("sandbox")]
    assert len(rows) == 3
    assert not any(row.ok for row in rows)
    assert all(row.remedy for row in rows)


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_an_unknown_processor_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(opened(kind))  # skips where it does not work anyway
    monkeypatch.setattr(process.platform, "machine", lambda: "riscv64")
    with pytest.raises(FledgeError, match="no sandbox on riscv64"):
        choose_sandbox(kind)


def test_a_sandbox_that_breaks_says_so_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    [made] = list(opened("bubblewrap"))[:1]
    monkeypatch.setattr(made._kind, "_program", "/bin/false")  # type: ignore[attr-defined]
    with pytest.raises(FledgeError, match="could not be set up, so nothing was run"):
        made.run("print(1)", timeout_seconds=5)
    with pytest.raises(FledgeError, match="could not be set up, so nothing was run"):
        run_tests(made, "def f(): pass", ["assert f() is None"], timeout_seconds=5)


def test_the_lock_is_closed_before_the_code_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that the kernel does not take ends the process, without a line of the code."""
    [made] = list(opened("landlock"))[:1]
    monkeypatch.setattr(process, "build_filter", lambda *a, **k: b"\xff" * 8)
    with pytest.raises(FledgeError, match="nothing was run"):
        made.run("print('REACHED')", timeout_seconds=5)


def test_unknown_kind() -> None:
    with pytest.raises(InputError, match="did you mean 'bubblewrap'"):
        choose_sandbox("bublewrap")
    assert set(sandbox.FULL) < set(KINDS)


def test_command(tmp_path: Path) -> None:
    if all(sandbox.why_not(kind) for kind in KINDS):
        pytest.skip("no sandbox works here")
    file = tmp_path / "code.py"
    file.write_text("print('hi')\nprint(1 / 0)\n", encoding="utf-8")
    done = CliRunner().invoke(doors, ["sandbox", "run", str(file)], standalone_mode=False)
    assert (done.return_value, done.stdout) == (1, "hi\n")
    assert done.stderr.startswith("raised: Traceback")
    assert "ZeroDivisionError" in done.stderr
    words = ["sandbox", "run", "-", "--json", "--timeout", "2", "--memory", "256"]
    done = CliRunner().invoke(doors, words, input="print(6 * 7)", standalone_mode=False)
    assert done.return_value == 0
    row = json.loads(done.stdout)
    assert (row["ending"], row["stdout"], row["error"]) == ("finished", "42\n", "")
    with pytest.raises(InputError, match="is no file"):
        CliRunner().invoke(
            doors, ["sandbox", "run", "absent.py"], standalone_mode=False, catch_exceptions=False
        )
