"""Training states on disk: saved whole or not at all, the last two kept."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from fledge.core.files import replacing
from fledge.core.protocols import Progress, Silent

KEPT = 2
_NAME = re.compile(r"step-(\d+)\.pt")
_BROKEN = (RuntimeError, OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)


class Checkpoints:
    """The states below ``folder``, one file ``step-<number>.pt`` each."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.folder = folder
        self._progress = progress or Silent()

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, synced; then drop all but it and the one before.

        A state of a later step is a leftover of a run that was started anew from an earlier one.
        """
        path = self.folder / f"step-{step:09d}.pt"
        with replacing(path) as temporary:
            torch.save(state, temporary)
        earlier = [other for other in self._paths() if other.name < path.name]
        for other in {*self._paths()} - {path, *earlier[1 - KEPT :]}:
            other.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None.  Broken ones are removed, and that is said.

        A file that this user may not read, or for which memory is short, is no broken one: that
        raises.
        """
        for path in reversed(self._paths()):
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except _BROKEN as error:
                if isinstance(error, PermissionError) or "memory" in str(error):
                    raise
                self._progress.say(f"the saved state {path} is broken and removed")
                path.unlink()
                continue
            return state
        return None

    def _paths(self) -> list[Path]:
        """Saved states, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
