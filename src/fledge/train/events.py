"""What a training run tells while it runs: JSONL and TensorBoard events.

``loss.jsonl`` and ``validation.jsonl`` hold no timings and are reproducible to the byte;
``logs/metrics.jsonl`` and the TensorBoard events beside it are not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

FILES = {
    "loss": "loss.jsonl",
    "validation": "validation.jsonl",
    "metrics": "logs/metrics.jsonl",
}


class Journal:
    """Appends rows to the files of a run; continues where a saved state left them."""

    def __init__(self, out: Path, sizes: dict[str, int], step: int) -> None:
        """``sizes``: bytes of each file when the state was saved; what was written later goes."""
        from tensorboardX import SummaryWriter

        (out / "logs").mkdir(parents=True, exist_ok=True)
        self._files: dict[str, BinaryIO] = {}
        for kind, name in FILES.items():
            handle = (out / name).open("ab")
            handle.truncate(min(sizes.get(kind, 0), handle.tell()))
            handle.seek(0, os.SEEK_END)
            self._files[kind] = handle
        self._events = SummaryWriter(str(out / "logs"), purge_step=step or None)

    def write(self, kind: str, row: dict[str, Any]) -> None:
        """Append a row to the file of this kind."""
        self._files[kind].write((json.dumps(row) + "\n").encode())

    def events(self, step: int, values: dict[str, float]) -> None:
        """Append TensorBoard scalars."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, synced to disk: what a saved state remembers."""
        for handle in self._files.values():
            handle.flush()
            os.fsync(handle.fileno())
        return {kind: handle.tell() for kind, handle in self._files.items()}

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._files.values():
            handle.close()
        self._events.close()
