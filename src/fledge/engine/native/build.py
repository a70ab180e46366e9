"""The sources in ``kernels/`` in, a shared library for this CPU out: compiled once, kept in the
cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fledge.core.compiler import compiled_folder, find_compiler
from fledge.core.errors import FledgeError, InputError
from fledge.core.files import replacing

SOURCE = Path(__file__).with_name("kernels") / "kernels.cpp"
"""Includes the headers beside it."""

FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-ffp-contract=fast")
"""Contraction only: nothing else may reorder a sum, and NaN stays NaN."""


@dataclass(frozen=True)
class Level:
    """A set of instructions."""

    name: str
    needs: frozenset[str]
    """What the CPU must have, as Linux names it, without underscores."""
    flags: tuple[str, ...]


_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni")

LEVELS = (
    Level(
        "avx512",
        frozenset({"avx2", "fma", *_AVX512}),
        ("-mavx2", "-mfma", *(f"-m{name}" for name in _AVX512)),
    ),
    Level("avx2 vnni", frozenset({"avx2", "fma", "avxvnni"}), ("-mavx2", "-mfma", "-mavxvnni")),
    Level("avx2", frozenset({"avx2", "fma"}), ("-mavx2", "-mfma")),
    Level("plain", frozenset(), ("-Wno-psabi",)),
)
"""The best first; "plain" is what every CPU of the architecture has (on ARM: NEON)."""


def library_path(level: str | None = None) -> Path:
    """The compiled kernels, made now if need be.

    ``level``: the name of one of ``LEVELS``; None: the best of this CPU that the compiler knows.
    Raises InputError without a compiler, FledgeError when it fails.
    """
    compiler = find_compiler()
    if compiler is None:
        raise InputError(
            "the native engine needs a C++ compiler, and there is none",
            remedy="install g++ or clang++, name one in $CXX, or use the torch engine",
        )
    named = [item for item in LEVELS if item.name == level]
    if level is not None and not named:
        known = ", ".join(item.name for item in LEVELS)
        raise InputError(f"instruction level {level!r} is not known", remedy=f"one of {known}")
    candidates = named or usable_levels()
    for item in candidates[:-1]:
        with suppress(FledgeError):  # an old compiler does not know its flags
            return _built(compiler, item)
    return _built(compiler, candidates[-1])


def usable_levels() -> list[Level]:
    """The levels of this CPU, the best first."""
    found = _instructions()
    return [level for level in LEVELS if level.needs <= found]


def _instructions() -> frozenset[str]:
    """What the CPU can do beyond its architecture's least; empty where nobody says."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    with suppress(OSError, StopIteration, subprocess.SubprocessError):
        if sys.platform == "darwin":
            keys = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
            command = ["sysctl", "-n", *keys]
            words = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        else:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            words = next(line for line in lines if line.startswith("flags")).partition(":")[2]
        return frozenset(word.lower().replace("_", "") for word in words.split())
    return frozenset()


def _built(compiler: str, level: Level) -> Path:
    """The library of a level; of several processes that need it at once one compiles."""
    command = [*shlex.split(compiler), *FLAGS, *level.flags]
    folder = compiled_folder()
    path = folder / f"native-{level.name.replace(' ', '-')}-{_digest(command)}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")):
            if not path.is_file():
                with replacing(path) as temporary:
                    _compile(command, temporary)
    except OSError as error:
        raise InputError(
            f"{folder}: compiled code cannot be kept there ({error.strerror})",
            remedy="set FLEDGE_HOME to a folder that can be written",
        ) from None
    return path


def _digest(command: Sequence[str]) -> str:
    """Of all that decides what comes out."""
    program = next(i for i, word in enumerate(command) if word == FLAGS[0])
    version = subprocess.run(
        [*command[:program], "--version"], capture_output=True, check=False
    ).stdout
    sources = b"\0".join(path.read_bytes() for path in sorted(SOURCE.parent.iterdir()))
    parts = (sources, "\0".join(command).encode(), version, platform.machine().encode())
    return hashlib.sha256(b"\0\0".join(parts)).hexdigest()[:16]


def _compile(command: Sequence[str], out: Path) -> None:
    done = subprocess.run(
        [*command, "-o", str(out), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise FledgeError(
            f"{command[0]} cannot compile {SOURCE.name}: {lines[0].strip()[:200]}",
            remedy="name another compiler in $CXX, or use the torch engine",
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock file; where the file system has no locks, goes on without: it is only faster."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
