"""The C++ compiler of this machine, and the folder where compiled code is kept between runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from fledge.core.home import home_folder


def find_compiler() -> str | None:
    """The C++ compiler to use: $CXX if it is there, else the system's usual one, else another."""
    usual = ("clang++", "g++") if sys.platform == "darwin" else ("g++", "clang++")
    names = (os.environ.get("CXX", ""), *usual, "c++")
    return next((name for name in names if name.strip() and _is_at_hand(name)), None)


def _is_at_hand(name: str) -> bool:
    """Whether the program exists; on macOS the ones in /usr/bin may only offer to install Xcode."""
    path = shutil.which(shlex.split(name)[0])
    if path is None or sys.platform != "darwin" or Path(path).parent != Path("/usr/bin"):
        return path is not None
    try:
        tools = subprocess.run(["xcode-select", "-p"], capture_output=True, check=False)
    except OSError:
        return False
    return tools.returncode == 0


def compiled_folder() -> Path:
    """Below $FLEDGE_HOME, or the user's cache."""
    return home_folder() / "compiled"
