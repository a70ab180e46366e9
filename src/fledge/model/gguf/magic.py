"""Whether a path is a GGUF file: by its first bytes or its ending."""

from __future__ import annotations

from pathlib import Path

MAGIC = b"GGUF"


def is_gguf(path: Path | str) -> bool:
    """Whether ``path`` is a file that is, or calls itself, GGUF.  Imports nothing heavy."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        return handle.read(4) == MAGIC or path.suffix.lower() == ".gguf"
