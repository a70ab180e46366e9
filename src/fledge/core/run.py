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
from fledge.core.files import (
    file_digest,
    files_below,
    read_json,
    replace_folder,
    value_digest,
    write_json,
)

MANIFEST = "manifest.json"
KEY = "stage.json"
VOLATILE = ("logs", "state")
"""Folders of a stage that are kept but not digested: timings, events, training state."""

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
            "config": config.model_dump(mode="json"),
            "inputs": dict(inputs),
        }
    )


def input_digest(path: Path) -> str:
    """Digest of a stage's folder (from its manifest), of a plain folder, or of a file."""
    if path.is_file():
        return file_digest(path)
    if (path / MANIFEST).is_file():
        return str(read_json(path / MANIFEST)["digest"])
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
        path = self.final / MANIFEST
        return read_json(path) if path.is_file() else None

    def finished(self, key: str) -> bool:
        """Whether the stage is done with this very key."""
        manifest = self.manifest()
        return manifest is not None and manifest["key"] == key

    def resumable(self, key: str) -> bool:
        """Whether a killed run with this very key left something to continue."""
        path = self.partial / KEY
        return path.is_file() and read_json(path)["key"] == key

    def begin(self, key: str) -> Path:
        """The partial folder to write into, emptied unless it belongs to the same key."""
        if not self.resumable(key):
            if self.partial.exists():
                shutil.rmtree(self.partial)
            self.partial.mkdir(parents=True)
            write_json(self.partial / KEY, {"key": key, "seconds": 0.0})
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
        (self.partial / KEY).unlink()
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
        write_json(self.partial / MANIFEST, manifest)
        replace_folder(self.partial, self.final)
        return manifest


def _digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 for every file below ``folder`` that is not volatile."""
    paths = ((path.relative_to(folder), path) for path in files_below(folder))
    return {
        relative.as_posix(): file_digest(path)
        for relative, path in paths
        if relative.parts[0] not in VOLATILE and relative.as_posix() != MANIFEST
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
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory in bytes (0 when the system does not tell)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, or of its largest child if that is larger."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    sizes = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return max(sizes) * unit


def _commit() -> str:
    """The git commit of the installed source, or empty."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
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
