"""The folder where fledge keeps what outlives a run: compiled code, keys, caches."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def home_folder() -> Path:
    """$FLEDGE_HOME, or a folder of the user's cache; it may not exist yet."""
    home = os.environ.get("FLEDGE_HOME")
    if home:
        return Path(home)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fledge"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fledge"
