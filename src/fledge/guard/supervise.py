"""Processes in, what they wrote and how they ended out: bounded output, bounded time.

Nothing that a process does holds the host up: pipes are read as they fill and cut, and at the
deadline, or when too much is written, everything that the process started is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fledge.core.errors import FledgeError

FLOOD = 16 << 20
"""Bytes of one stream from which a process is ended: reading on would only heat the machine."""

START_SECONDS = 60.0
"""Until a process must have locked itself down; what it takes is not the code's time."""

REPORT_BYTES = 4 << 20

_CHUNK = 1 << 16


@dataclass
class Child:
    """A started process, its streams, and what was read from them so far."""

    process: subprocess.Popen[bytes]
    report: int
    """The end of the pipe on which the process tells its facts."""
    kept: int
    """Bytes to keep of stdout, and of stderr."""
    read: dict[str, bytearray] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    """Every stream has been read to its end."""
    flooded: bool = False

    def text(self, stream: str) -> str:
        """What is kept of a stream; a character cut in two at the end is left out."""
        data = bytes(self.read.get(stream, b""))
        if len(data) < self.written.get(stream, 0):
            return data.decode(errors="ignore")
        return data.decode(errors="replace")

    @property
    def cut(self) -> bool:
        return any(
            self.written.get(name, 0) > len(self.read.get(name, b""))
            for name in ("stdout", "stderr")
        )

    def facts(self) -> list[dict[str, Any]]:
        """The whole lines of the report; what is no JSON object ends it."""
        found: list[dict[str, Any]] = []
        for line in bytes(self.read.get("report", b"")).split(b"\n")[:-1]:
            try:
                fact = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(fact, dict):
                break
            found.append(fact)
        return found

    def told(self, facts: int) -> bool:
        """Whether so many lines of the report have come, or no more will."""
        return self.ended or self.read.get("report", b"").count(b"\n") >= facts

    @property
    def ready(self) -> bool:
        return b"\n" in self.read.get("report", b"")

    def kill(self) -> None:
        """End the process and all that stands in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def start(
    command: Sequence[str],
    job: dict[str, Any],
    *,
    environment: dict[str, str],
    kept: int,
    fds: Sequence[int],
) -> Child:
    """Start a process that reads ``job`` on stdin and finds ``report`` in it."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writing, *fds],
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    child = Child(process, reading, kept)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps({**job, "report": writing}).encode())
    return child


def watch(
    children: Sequence[Child], seconds: float, done: Callable[[], bool] = lambda: False
) -> tuple[float, bool]:
    """Read until all children end or ``done``; (seconds of the code, whether time ran out).

    Afterwards nothing of them is left: every process has been killed and waited for.
    """
    began = time.monotonic()
    deadline, timed_out, ready = began + START_SECONDS, False, False
    with selectors.DefaultSelector() as selector:
        for child in children:
            _register(selector, child)
        while selector.get_map() and not done():
            if not ready and all(child.ready or child.ended for child in children):
                ready, began = True, time.monotonic()
                deadline = began + seconds
            left = deadline - time.monotonic()
            if left <= 0:
                timed_out = True
                break
            for key, _ in selector.select(left):
                _take(selector, key)
        spent = time.monotonic() - began
        for child in children:
            child.kill()
        _drain(selector)
    for child in children:
        _bury(child)
    if timed_out and not ready:
        raise FledgeError(
            f"the sandbox did not start within {START_SECONDS:.0f} s",
            remedy="is the machine overloaded? Run fewer at the same time",
        )
    return spent, timed_out


def _register(selector: selectors.BaseSelector, child: Child) -> None:
    streams = {
        "stdout": child.process.stdout,
        "stderr": child.process.stderr,
        "report": child.report,
    }
    for name, stream in streams.items():
        assert stream is not None
        os.set_blocking(stream if isinstance(stream, int) else stream.fileno(), False)
        child.read[name], child.written[name] = bytearray(), 0
        selector.register(stream, selectors.EVENT_READ, (child, name))


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Read what a stream has; keep what may be kept."""
    child, name = key.data
    try:
        data = os.read(key.fd, _CHUNK)
    except BlockingIOError:
        return
    if not data:
        selector.unregister(key.fileobj)
        child.ended = not any(other.data[0] is child for other in selector.get_map().values())
        return
    room = (REPORT_BYTES if name == "report" else child.kept) - len(child.read[name])
    child.read[name] += data[: max(0, room)]
    child.written[name] += len(data)
    if child.written[name] > FLOOD and not child.flooded:
        child.flooded = True
        child.kill()


def _drain(selector: selectors.BaseSelector) -> None:
    """Read the streams of killed processes to their end: the proof that nobody holds them."""
    deadline = time.monotonic() + 10.0
    while selector.get_map():
        left = deadline - time.monotonic()
        if left <= 0:
            raise FledgeError("a killed sandbox still runs", remedy="look for it with ps")
        for key, _ in selector.select(left):
            _take(selector, key)


def _bury(child: Child) -> None:
    child.process.wait()
    for stream in (child.process.stdout, child.process.stderr):
        if stream is not None:
            stream.close()
    os.close(child.report)
