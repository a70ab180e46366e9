"""Full Python that may open the files it needs and no other (Landlock), with limits and a filter.

For machines without user namespaces.  Nothing can be written anywhere, there is one thread, and
no process; but names, sizes and dates of files can be looked up, which Landlock does not hide.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.guard.limits import SandboxLimits
from fledge.guard.process import INTERPRETER, ProcessSandbox
from fledge.guard.python_files import PythonFiles, find_python_files

NEEDED = 3
"""The first version (Linux 6.2) that watches over the cutting of files."""

_EXECUTE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 2, 1 << 3


def landlock_version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if platform.system() != "Linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long
    return max(0, int(libc.syscall(number(444), None, number(0), number(1))))


class Landlock:
    """The kind "landlock": Python as it is, and the rules that the lock lays down inside."""

    name = "landlock"

    def __init__(self, limits: SandboxLimits, version: int) -> None:
        self._version = version
        self._files = find_python_files(limits.packages)

    def command(self, program: str) -> list[str]:
        """Python on ``program``."""
        return [self._files.executable, *INTERPRETER, program]

    def lock(self, limits: SandboxLimits) -> dict[str, Any]:
        """Every right that the kernel can watch is handled; reading is given back for some."""
        rights = 16 if self._version >= 5 else 15
        return {
            "parent": os.getpid(),
            "scratch": None,
            "uid": None,
            "landlock": {
                "handled": (1 << rights) - 1,
                "scoped": 3 if self._version >= 6 else 0,  # no signals, no abstract sockets
                "paths": _rules(self._files),
            },
            "packages": self._files.packages,
            "own_files": False,
            "threads": False,
        }


def _rules(files: PythonFiles) -> list[tuple[str, int]]:
    """(path, rights) of what may be read; the packages beside the standard library may not."""
    rules = [(path, _READ_FOLDER) for path in files.standard]
    rules += [
        (str(path), _rights(path))
        for folder in files.standard
        for path in Path(folder).iterdir()
        if str(path) not in files.hidden
    ]
    rest = (*files.libraries, *files.package_folders)
    return rules + [(path, _rights(Path(path))) for path in rest]


def _rights(path: Path) -> int:
    """A folder may be listed and its files read and mapped; a file may be read and mapped."""
    return _EXECUTE | _READ_FILE | (_READ_FOLDER if path.is_dir() else 0)


def open_landlock(limits: SandboxLimits) -> ProcessSandbox:
    """A sandbox that has been tried; raises InputError, with the remedy, where none can be had."""
    version = landlock_version()
    if version < NEEDED:
        raise InputError(
            f"the Landlock sandbox needs version {NEEDED} of Landlock (Linux 6.2), here: {version}",
            remedy="install bubblewrap, or use --kind monty",
        )
    sandbox = ProcessSandbox(Landlock(limits, version), limits)
    reason = sandbox.trial()
    if reason:
        raise InputError(f"Landlock does not work here: {reason}", remedy="install bubblewrap")
    return sandbox
