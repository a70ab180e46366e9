"""Full Python in namespaces of its own (bubblewrap), with limits and a filter of system calls.

A process sees the Python it needs, read-only, and a small scratch folder in memory: no /proc, no
/dev, no network, no other process, no writable root.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.guard.limits import SandboxLimits
from fledge.guard.process import ENVIRONMENT, INTERPRETER, ProcessSandbox
from fledge.guard.python_files import find_python_files

SCRATCH = "/scratch"
"""Where code may write."""

_NAMESPACES = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"),
)
_FIRST_UID, _UIDS = 1_000_000_000, 1_000_000_000


class Bubblewrap:
    """The kind "bubblewrap": words for ``bwrap`` and what the lock has to do inside.

    For the superuser each process gets a user number that nobody has (``own_user``), so that the
    limit on threads, which root is free of, holds; else it gets a user namespace.  Where root
    cannot have the former, as when others may not read its Python, there is one thread.
    """

    name = "bubblewrap"

    def __init__(self, limits: SandboxLimits, program: str, *, own_user: bool) -> None:
        self._program = program
        self._own_user = own_user
        self._files = find_python_files(limits.packages)

    def command(self, program: str) -> list[str]:
        """bwrap with its mounts, then Python on ``program``."""
        files = self._files
        words = [self._program, *_NAMESPACES, "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]
        if self._own_user:
            words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            words += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        shown = (files.executable, *files.libraries, *files.standard, *files.package_folders)
        for path in _parents(shown):  # open to a user who does not own them
            words += ["--perms", "0755", "--dir", path]
        for path in files.libraries + files.standard:
            words += ["--ro-bind", path, path]
        for path in files.hidden:  # empty but for the packages
            words += ["--tmpfs", path]
        for path in (files.executable, *files.package_folders):
            words += ["--ro-bind", path, path]
        for path in files.hidden:
            words += ["--remount-ro", path]
        words += ["--dir", SCRATCH]
        if not any(path.startswith("/tmp/") for path in shown):
            words += ["--symlink", SCRATCH, "/tmp"]
        for name, value in {**ENVIRONMENT, "HOME": SCRATCH, "TMPDIR": SCRATCH}.items():
            words += ["--setenv", name, value]
        return [*words, "--remount-ro", "/", "--", files.executable, *INTERPRETER, program]

    def lock(self, limits: SandboxLimits) -> dict[str, Any]:
        """A scratch folder bounded in bytes and in files; a user number of its own."""
        uid = _FIRST_UID + random.SystemRandom().randrange(_UIDS) if self._own_user else None
        scratch = {"path": SCRATCH, "bytes": limits.disk_bytes, "files": limits.files}
        return {
            "parent": None,
            "scratch": scratch,
            "uid": uid,
            "landlock": None,
            "packages": self._files.packages,
            "own_files": True,
            "threads": self._own_user or not _may_take_users(),
        }


def _parents(paths: tuple[str, ...]) -> list[str]:
    """The folders above ``paths`` that have to be made, outermost first."""
    above = {str(folder) for path in paths for folder in Path(path).parents}
    inside = tuple(f"{path}/" for path in paths)
    return sorted(path for path in above if path != "/" and not f"{path}/".startswith(inside))


def open_bubblewrap(limits: SandboxLimits) -> ProcessSandbox:
    """A sandbox that has been tried; raises InputError, with the remedy, where none can be had."""
    program = shutil.which("bwrap")
    if platform.system() != "Linux" or program is None:
        raise InputError(
            "the bubblewrap sandbox needs Linux and the program bwrap",
            remedy="install it (apt-get install bubblewrap), or use --kind monty",
        )
    reasons = []
    for own_user in (True, False):
        if own_user and not _may_take_users():
            continue
        sandbox = ProcessSandbox(Bubblewrap(limits, program, own_user=own_user), limits)
        reason = sandbox.trial()
        if not reason:
            return sandbox
        reasons.append(reason)
    raise InputError(
        f"bubblewrap does not work here: {reasons[-1]}",
        remedy="allow user namespaces (sysctl kernel.unprivileged_userns_clone=1,"
        " kernel.apparmor_restrict_unprivileged_userns=0), or use --kind landlock or monty",
    )


def _may_take_users() -> bool:
    """Whether this is the superuser of a machine, not of a container with few user numbers."""
    if os.geteuid() != 0:
        return False
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    ranges = [[int(word) for word in line.split()] for line in lines]
    return any(
        first <= _FIRST_UID and first + count >= _FIRST_UID + _UIDS for first, _, count in ranges
    )
