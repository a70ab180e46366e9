"""Training states on disk: saved whole or not at all, the last two kept.

One process writes a file ``step-<number>.pt``, several write a folder ``step-<number>``; either
is read by any number of processes.
"""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from fledge.core.errors import FledgeError
from fledge.core.files import replace_folder, replacing, restore_folder, sync_below, sync_folder
from fledge.core.protocols import Progress, Silent
from fledge.train.sharded_state import Layout, read_state, whole, write_state, written
from fledge.train.world import ALONE, World

KEPT = 2
_NAME = re.compile(r"step-(\d+)(\.pt)?")
_HALF_DONE = (".step-*.tmp", ".step-*.new")
"""A file by ``replacing``, a folder by ``_save_folder``: what a kill leaves of either."""
_BROKEN = (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)


class Checkpoints:
    """The states below ``folder``, each named by its step.

    With several processes every one of them must call the same method; only the main one renames
    and removes.  ``layout`` says how a tensor of the state is spread over them.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress | None = None,
        world: World = ALONE,
        layout: Layout = whole,
    ) -> None:
        self.folder = folder
        self._progress = progress or Silent()
        self._world = world
        self._layout = layout

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, synced; then drop all but it and the one before.

        A state of a later step is a leftover of a run that was started anew from an earlier one.
        """
        path = self.folder / f"step-{step:09d}.pt"
        if self._world.size > 1:
            path = path.with_suffix("")
            self._save_folder(path, state)
        else:
            with replacing(path) as temporary:
                torch.save(state, temporary)
            sync_folder(self.folder)  # the new name first: then the old ones may go
        if self._world.is_main:
            earlier = [other for other in self._paths() if _step(other) < step]
            for other in {*self._paths()} - {path, *earlier[1 - KEPT :]}:
                _remove(other)
        self._world.barrier()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None.  Broken ones are removed, and that is said.

        A file that this user may not read, or for which memory is short, is no broken one: that
        raises.
        """
        if self._world.is_main:
            self._clean()
        while (path := self._newest()) is not None:
            state, problem = self._read(path)
            if not self._world.any(problem is not None):
                return state
            if self._world.is_main:
                self._progress.say(f"the saved state {path} is broken and removed")
                _remove(path)
        return None

    def _read(self, path: Path) -> tuple[dict[str, Any] | None, Exception | None]:
        """The state at ``path``, or what is wrong with it."""
        try:
            return read_state(path, self._layout), None
        except _BROKEN as error:
            if isinstance(error, PermissionError) or "memory" in str(error):
                raise
            return None, error

    def _save_folder(self, path: Path, state: dict[str, Any]) -> None:
        """All processes write a folder of another name, which the main one puts into place."""
        temporary = path.with_name(f".{path.name}.new")
        if self._world.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
        self._world.barrier()
        problem = write_state(temporary, state, self._world.is_main)
        if problem is None and self._world.is_main:
            problem = written(lambda: _put(temporary, path))
        if self._world.any(problem is not None):
            if self._world.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            raise FledgeError(
                f"the training state cannot be saved as {path}: {problem or 'see the others'}",
                remedy="make room or mend the disk; the same command goes on from the state before",
            )

    def _newest(self) -> Path | None:
        """The newest state, as the main process sees it."""
        paths = self._paths() if self._world.is_main else []
        mine = (_step(paths[-1]) + 1, paths[-1].suffix == ".pt") if paths else (0, False)
        number, file = self._world.sums(*mine)
        name = f"step-{int(number) - 1:09d}" + (".pt" if file else "")
        return self.folder / name if number else None

    def _paths(self) -> list[Path]:
        """Saved states, oldest first."""
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(paths, key=lambda path: (_step(path), path.name))

    def _clean(self) -> None:
        """Finish or take back what a kill left half done."""
        for path in self.folder.glob(".step-*.old") if self.folder.is_dir() else []:
            restore_folder(path.with_name(path.name.removeprefix(".").removesuffix(".old")))
        for pattern in _HALF_DONE if self.folder.is_dir() else ():
            for path in self.folder.glob(pattern):
                _remove(path)


def _put(temporary: Path, path: Path) -> None:
    sync_below(temporary)
    replace_folder(temporary, path)


def _step(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else -1


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
