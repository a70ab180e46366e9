"""Training states on disk: saved whole or not at all, the last two kept."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from fledge.core.files import replacing

KEPT = 2
_NAME = re.compile(r"step-(\d+)\.pt")


class Checkpoints:
    """The states below ``folder``, one file ``step-<number>.pt`` each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, synced; then drop all but the last two."""
        with replacing(self.folder / f"step-{step:09d}.pt") as temporary:
            torch.save(state, temporary)
        for path in self._paths()[:-KEPT]:
            path.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None.  A broken file falls back to the former."""
        for path in reversed(self._paths()):
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile):
                continue
            return state
        return None

    def _paths(self) -> list[Path]:
        """Saved states, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
