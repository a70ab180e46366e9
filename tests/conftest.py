"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads must not spin
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def fledge_data() -> Path:
    """The folder of real data named by $FLEDGE_DATA; skips the test without it."""
    folder = os.environ.get("FLEDGE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set FLEDGE_DATA to its folder")
    return Path(folder)
