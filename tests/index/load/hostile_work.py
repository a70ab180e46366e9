"""Work for the processes that read: files whose names say how their parser fails."""

from __future__ import annotations

import os
import signal
from typing import Any

from fledge.index.load import reading
from fledge.index.load.parsing import parse as real_parse

real_work = reading._work


def work(task: Any, bad: dict[int, str], place: Any) -> Any:
    """``reading._work`` with a parser that fails as asked."""
    reading.parse = _parse
    return real_work(task, bad, place)


def _parse(source: Any, config: Any) -> Any:
    if source.name == "crash.pdf":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif source.name == "stall.pdf":
        sum(range(10**12))  # C that never looks at signals
    elif source.name == "spin.pdf":
        while True:
            pass
    elif source.name == "memory.pdf":
        bytearray(16 << 30)
    return real_parse(source, config)
