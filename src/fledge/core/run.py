"""The run directory: a stage writes ``<stage>.partial/`` and, when done, becomes ``<stage>/``.

Key of a stage = its name, config and the digests of its inputs.  A finished stage with the same
key is skipped; a partial one with the same key is continued; any other partial is started anew.
The former ``<stage>/`` stays untouched until the new one is whole.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.files import (
    file_digest,
    files_below,
    read_json,
    remove_leftovers,
    replace_folder,
    restore_folder,
    sync_below,
    value_digest,
    write_json,
)

MANIFEST = "manifest.json"
KEY = "stage.json"
VOLATILE = ("logs", "state", "index")
"""Folders of a stage that are kept but not digested: timings, events, training state, an index,
whose bytes depend on when and in which batches it was written."""

_PACKAGES = ("fledge", "torch", "numpy", "tokenizers", "trafilatura", "pyarrow", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage reports.  ``figures`` carry the flat names of ``report.json``."""

    counts: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


def stage_key(name: str, config: Config, inputs: Mapping[str, str]) -> str:
    """The identity of a stage's result: name, resolved config, input digests, fledge version."""
    return value_digest(
        {
            "stage": name,
            "fledge": metadata.version("fledge"),
            "config": config.model_dump(mode="json", exclude=set(config.incidental)),
            "inputs": dict(inputs),
        }
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage's folder, or None when it is no such folder."""
    path = folder / MANIFEST
    found = read_json(path) if path.is_file() else None
    whole = isinstance(found, dict) and {"stage", "key", "digest"} <= set(found)
    return found if whole else None


def is_current(run: Path, stage: str) -> bool:
    """Whether a stage's folder was made from its neighbours as they stand now.

    A folder without a manifest is nobody's result, and so as current as it will ever be.
    """
    manifest = read_manifest(run / stage) or {}
    for name, digest in manifest.get("inputs", {}).items():
        before = read_manifest(run / name) if "/" not in name else None
        if before is not None and before["digest"] != digest:
            return False
    return True


def input_digest(path: Path) -> str:
    """Digest of a stage's folder (from its manifest), of a plain folder, or of a file."""
    if path.is_file():
        return file_digest(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", remedy="check the path")
    manifest = read_manifest(path)
    if manifest is not None:
        return str(manifest["digest"])
    return value_digest(_digests(path))


@dataclass(frozen=True)
class StageFolder:
    """The place of stage ``name`` in run directory ``run``."""

    run: Path
    name: str

    @property
    def final(self) -> Path:
        return self.run / self.name

    @property
    def partial(self) -> Path:
        return self.run / f"{self.name}.partial"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the finished stage, or None."""
        return read_manifest(self.final)

    def finished(self, key: str) -> bool:
        """Whether the stage is done with this very key."""
        manifest = self.manifest()
        return manifest is not None and manifest["key"] == key

    def resumable(self, key: str, *, forced: bool = False) -> bool:
        """Whether a killed run with this very key left something to continue.

        A ``forced`` run continues only what a forced run began.
        """
        path = self.partial / KEY
        note = read_json(path) if path.is_file() else {}
        return note.get("key") == key and (not forced or bool(note.get("forced")))

    def recover(self) -> None:
        """Finish what a kill interrupted at the very end: a whole partial takes its place."""
        restore_folder(self.final)
        manifest = read_manifest(self.partial)
        if manifest is not None and self.resumable(str(manifest["key"])):
            self._settle()

    def begin(self, key: str, *, forced: bool = False) -> Path:
        """The partial folder to write into, emptied unless it belongs to the same key.

        Raises InputError when something that is no stage stands where the result will go.
        """
        if self.final.exists() and self.manifest() is None and _holds_something(self.final):
            raise InputError(
                f"{self.final} is not empty and no result of fledge", remedy="name a new folder"
            )
        if not self.resumable(key, forced=forced):
            if self.partial.exists():
                shutil.rmtree(self.partial)
            self.partial.mkdir(parents=True)
            write_json(self.partial / KEY, {"key": key, "seconds": 0.0, "forced": forced})
        remove_leftovers(self.partial)
        return self.partial

    def pause(self, seconds: float) -> None:
        """Remember the time spent so far; called when a run is interrupted."""
        note = read_json(self.partial / KEY)
        write_json(self.partial / KEY, {**note, "seconds": note["seconds"] + seconds})

    def finish(
        self,
        stage: str,
        config: Config,
        inputs: Mapping[str, str],
        outcome: Outcome,
        seconds: float,
    ) -> dict[str, Any]:
        """Write the manifest, put the folder in its final place; returns the manifest."""
        note = read_json(self.partial / KEY)
        outputs = _digests(self.partial)
        manifest = {
            "stage": stage,
            "key": note["key"],
            "digest": value_digest(outputs),
            "config": config.model_dump(mode="json"),
            "seed": getattr(config, "seed", None),
            "inputs": dict(inputs),
            "outputs": outputs,
            "counts": outcome.counts,
            "figures": outcome.figures,
            "seconds": round(note["seconds"] + seconds, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "commit": _commit(),
            "machine": machine(),
        }
        sync_below(self.partial)
        write_json(self.partial / MANIFEST, manifest)
        self._settle()
        return manifest

    def _settle(self) -> None:
        replace_folder(self.partial, self.final)
        (self.final / KEY).unlink(missing_ok=True)


def _holds_something(path: Path) -> bool:
    return not path.is_dir() or any(path.iterdir())


def _digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 for every file below ``folder`` that is not volatile."""
    paths = ((path.relative_to(folder), path) for path in files_below(folder))
    return {
        relative.as_posix(): file_digest(path)
        for relative, path in paths
        if relative.parts[0] not in VOLATILE and relative.as_posix() not in (MANIFEST, KEY)
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine: system, architecture, usable cores, memory in bytes."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
    }


def usable_cores() -> int:
    """Cores this process may use: by affinity, by a container's quota, by OMP_NUM_THREADS."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "")
    limits = [_quota(), int(wished) if wished.isdigit() and int(wished) else None]
    return min([cores, *(limit for limit in limits if limit)])


def _quota() -> int | None:
    """Whole cores of a Linux container's CPU quota (cgroup v2), or None."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def memory_bytes() -> int:
    """Memory this process may use, in bytes (0 when the system does not tell)."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        size = 0
    try:
        return min(size, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return size


def peak_memory_bytes() -> int:
    """Peak resident memory of the largest process: this one, or one of its workers."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    sizes = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return max(sizes) * unit


def _commit() -> str:
    """The git commit of the installed source, or empty when git does not keep it."""
    source = Path(__file__)
    command = f"git ls-files --error-unmatch {source.name} > /dev/null && git rev-parse HEAD"
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=source.parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start
