"""Attacks on every sandbox that works here: none may have an effect outside it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
from attack_forms import Attack
from sandbox_attacks import ATTACKS

from fledge.core.errors import FledgeError
from fledge.core.protocols import Execution
from fledge.guard.bubblewrap import Bubblewrap
from fledge.guard.exam import ExaminingSandbox
from fledge.guard.limits import SandboxLimits
from fledge.guard.process import ProcessSandbox
from fledge.guard.sandbox import choose_sandbox

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
LIMITS = SandboxLimits()


def in_user_namespace(limits: SandboxLimits) -> ExaminingSandbox:
    """bubblewrap as an ordinary user starts it, tried as root, too."""
    choose_sandbox("bubblewrap", limits)  # says why not
    sandbox = ProcessSandbox(Bubblewrap(limits, "bwrap", own_user=False), limits)
    reason = sandbox.trial()
    if reason:
        raise FledgeError(reason)
    return sandbox


KINDS: dict[str, Callable[[SandboxLimits], ExaminingSandbox]] = {
    "monty": lambda limits: choose_sandbox("monty", limits),
    "bubblewrap": lambda limits: choose_sandbox("bubblewrap", limits),
    "bubblewrap-userns": in_user_namespace,
    "landlock": lambda limits: choose_sandbox("landlock", limits),
}


SLOWER = "bubblewrap-userns"


@pytest.fixture(
    scope="module",
    params=[pytest.param(k, marks=[pytest.mark.slow] * (k == SLOWER)) for k in KINDS],
)
def sandbox(request: pytest.FixtureRequest) -> Iterator[ExaminingSandbox]:
    """Each kind that works here; the others are skipped with the reason."""
    try:
        made = KINDS[request.param](LIMITS)
    except FledgeError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@dataclass
class Host:
    """Things of the host that attacks are after, and what they were before."""

    folder: Path
    victim: subprocess.Popen[bytes]
    listeners: list[socket.socket]
    secret: str
    before: dict[str, object]

    @property
    def things(self) -> dict[str, str]:
        """What stands for ``@NAME@`` in attacks."""
        return {
            "SECRET_FILE": repr(str(self.folder / "secret.txt")),
            "FOLDER": repr(str(self.folder)),
            "TARGET": repr(str(self.folder / "target")),
            "SOCKET": repr(str(self.folder / "s")),
            "ABSTRACT": repr(self.secret[:8]),
            "PORT": str(self.listeners[0].getsockname()[1]),
            "VICTIM": str(self.victim.pid),
        }

    def state(self) -> dict[str, object]:
        """Everything that must be the same afterwards."""
        python = [Path(os.__file__), Path(np.__file__), Path(sys.executable)]
        shared = (
            Path("/dev/shm/planted"),
            Path("/planted"),
            Path("/usr/planted"),
            Path("/etc/planted"),
        )
        return {
            "files": sorted((path.name, _facts(path)) for path in self.folder.iterdir()),
            "folder": (self.folder.stat().st_mode, self.folder.stat().st_uid),
            "python": [_facts(path)[:3] for path in python],
            "planted": [path for path in shared if path.exists()],
            "system v": [
                _shared_memory(),
                *map(_lines, ("/proc/sysvipc/msg", "/proc/sysvipc/sem")),
            ],
            "victim": (self.victim.poll(), os.getpriority(os.PRIO_PROCESS, self.victim.pid)),
            "cores": os.sched_getaffinity(self.victim.pid) if self.victim.poll() is None else None,
            "hostname": socket.gethostname(),
            "own": (os.getpriority(os.PRIO_PROCESS, 0), os.getpgid(0), Path.cwd()),
            "mounts": self._mounts(),
        }

    def _mounts(self) -> list[str]:
        """Where something is mounted, but for disks that other tests mount beside this one."""
        ours, others = str(self.folder), f"{gettempdir()}/pytest-of-"
        found = _lines("/proc/self/mounts")
        return [at for at in found if at.startswith(ours) or not at.startswith(others)]

    def assert_untouched(self) -> None:
        assert self.state() == self.before
        for listener in self.listeners:
            with pytest.raises(BlockingIOError):
                listener.accept()


def _facts(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    text = path.read_bytes() if path.suffix == ".txt" else b""
    return found.st_size, found.st_mode, found.st_mtime_ns, found.st_uid, found.st_nlink, text


def _lines(path: str) -> list[str]:
    """The keys or whole lines of a file of the kernel."""
    found = Path(path)
    lines = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
    return [line.split()[1] for line in lines]


def _shared_memory() -> list[str]:
    """Segments of System V, but for that of a PostgreSQL which other tests started."""
    found = Path("/proc/sysvipc/shm")
    rows = [line.split() for line in found.read_text().splitlines()[1:]] if found.exists() else []
    return [row[1] for row in rows if _name_of(row[4]) != "postgres"]


def _name_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A folder with a secret, a process, sockets that nobody should call, a secret variable."""
    secret = secrets.token_hex(16)
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "secret.txt").write_text(secret, encoding="utf-8")
    monkeypatch.setenv("SANDBOX_SECRET", secret)
    monkeypatch.chdir(folder)
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    listeners = [socket.create_server(("127.0.0.1", 0))]
    for address in (str(folder / "s"), "\0" + secret[:8]):
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(address)
        listeners[-1].listen()
    for listener in listeners:
        listener.setblocking(False)
    made = Host(folder, victim, listeners, secret, {})
    made.before = made.state()
    try:
        yield made
    finally:
        victim.kill()
        victim.wait()
        for listener in listeners:
            listener.close()


def children() -> set[int]:
    """Processes below this one."""
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            found[int(path.parent.name)] = int(words[1])
    below = {os.getpid()}
    while more := {child for child, parent in found.items() if parent in below} - below:
        below |= more
    return below - {os.getpid()}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(sandbox: ExaminingSandbox, host: Host, attack: Attack) -> None:
    code = re.sub(r"@([A-Z_]+)@", lambda found: host.things[found[1]], attack.code)
    processes = children()
    began = time.monotonic()
    done = sandbox.run(code, timeout_seconds=attack.seconds)
    assert time.monotonic() - began < attack.seconds + 5
    shown = done.stdout + done.stderr + done.error
    assert host.secret not in shown
    assert "REACHED" not in done.stdout, done
    got = [int(number) for number in re.findall(r"^GOT (\d+)$", done.stdout, re.MULTILINE)]
    assert max(got, default=0) <= attack.most, done
    assert len(done.stdout.encode()) <= LIMITS.output_bytes + 3
    assert len(done.stderr.encode()) <= LIMITS.output_bytes + 3
    assert len(done.error) < 20_000
    host.assert_untouched()
    if sandbox.name != "monty":  # which keeps its workers
        assert children() == processes
    assert works(sandbox)


def works(sandbox: ExaminingSandbox) -> bool:
    """Whether the next code runs as if nothing had been."""
    done: Execution = sandbox.run("print(6 * 7)", timeout_seconds=10)
    return (done.ending, done.stdout) == ("finished", "42\n")


@pytest.mark.parametrize(
    "name", ["read_secret", "environment", "write_file", "tcp", "listen", "subprocess", "memfd"]
)
def test_attacks_reach_their_aim_without_a_sandbox(host: Host, name: str) -> None:
    """What the other test finds stopped is worth stopping."""
    [attack] = [attack for attack in ATTACKS if attack.name == name]
    code = re.sub(r"@([A-Z_]+)@", lambda found: host.things[found[1]], attack.code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "REACHED" in done.stdout or host.secret in done.stdout or "GOT 450" in done.stdout
    if name in ("write_file", "subprocess", "tcp"):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            host.assert_untouched()


def test_there_are_enough_attacks() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) >= 35
