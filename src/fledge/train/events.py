"""What a training run tells while it runs: JSONL, TensorBoard events, and further trackers.

``loss.jsonl``, ``validation.jsonl`` and ``samples.jsonl`` hold no timings and are reproducible to
the byte;
``logs/metrics.jsonl`` and the TensorBoard events beside it are not.  ``logs/spikes.jsonl`` has a
row for every batch that was skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from fledge.train.tracking import Tracker

FILES = {
    "loss": "loss.jsonl",
    "validation": "validation.jsonl",
    "metrics": "logs/metrics.jsonl",
    "spikes": "logs/spikes.jsonl",
    "samples": "samples.jsonl",
}
LASTING = "spikes"
"""The file that is not taken back when a run goes back: it tells of that."""


class Journal:
    """Appends rows to the files of a run; continues where a saved state left them.

    A process that is not the ``main`` one of its run writes nothing.
    """

    def __init__(
        self,
        out: Path,
        sizes: Mapping[str, int],
        step: int,
        *,
        main: bool = True,
        tracker: Tracker | None = None,
    ) -> None:
        """``sizes``: bytes of each file when the state was saved; what was written later goes."""
        self._out = out
        self._files: dict[str, BinaryIO] = {}
        self._events: Any = None
        self._tracker = tracker
        if not main:
            return
        (out / "logs").mkdir(parents=True, exist_ok=True)
        for kind, name in FILES.items():
            self._files[kind] = (out / name).open("ab")
            self._cut(kind, sizes.get(kind, 0))
        self._open_events(step)

    def write(self, kind: str, row: dict[str, Any]) -> None:
        """Append a row to the file of this kind."""
        if kind in self._files:
            self._files[kind].write((json.dumps(row) + "\n").encode())

    def events(self, step: int, values: Mapping[str, float]) -> None:
        """Append scalars to TensorBoard's events, and tell the tracker."""
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(step, values)

    def sample(self, step: int, prompt: str, text: str) -> None:
        """What the model made of a prompt."""
        self.write("samples", {"step": step, "prompt": prompt, "text": text})
        if self._events is not None:
            self._events.add_text(prompt, text, step)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, synced to disk: what a saved state remembers."""
        for handle in self._files.values():
            handle.flush()
            os.fsync(handle.fileno())
        return {kind: handle.tell() for kind, handle in self._files.items()}

    def rewind(self, sizes: Mapping[str, int], step: int) -> None:
        """Take back what was written after a state was saved at ``step``."""
        for kind, handle in self._files.items():
            handle.flush()
            if kind != LASTING:
                self._cut(kind, sizes.get(kind, 0))
        if self._events is not None:
            self._events.close()
            self._open_events(step)

    def _cut(self, kind: str, size: int) -> None:
        handle = self._files[kind]
        handle.seek(0, os.SEEK_END)
        handle.truncate(min(size, handle.tell()))
        handle.seek(0, os.SEEK_END)

    def _open_events(self, step: int) -> None:
        from tensorboardX import SummaryWriter

        folder = self._out / "logs"
        # Files are named by the second: two of one second would be one.
        number = len(list(folder.glob("events.out.tfevents.*")))
        self._events = SummaryWriter(
            str(folder), purge_step=step or None, filename_suffix=f".{number}"
        )

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
        if self._events is not None:
            self._events.close()
        if self._tracker is not None:
            self._tracker.close()
