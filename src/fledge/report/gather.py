"""A run directory in, what its stages left out: manifests, states, small JSON files, curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.core.run import KEY, MANIFEST, is_current
from fledge.report.words import STAGES

DONE, UNFINISHED, MISSING = "done", "unfinished", "not run"


@dataclass(frozen=True)
class StageFiles:
    """A stage of a run: finished, begun or not run."""

    name: str
    folder: Path
    state: str
    manifest: dict[str, Any]

    def json(self, name: str) -> Any:
        """The value of a JSON file of the stage, or None when there is none."""
        path = self.folder / name
        return read_json(path) if path.is_file() else None

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The lines of a JSONL file of the stage; of a torn file those before the tear."""
        path = self.folder / name
        if not path.is_file():
            return []
        found = []
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break  # a stage that was killed may leave half a line
            if isinstance(row, dict):
                found.append(row)
        return found

    def count(self, name: str) -> int:
        """A count of the manifest, 0 when it is not told."""
        return int(self.manifest.get("counts", {}).get(name, 0))

    @property
    def seconds(self) -> float:
        """Time spent so far."""
        return float(self.manifest.get("seconds", 0.0))


@dataclass(frozen=True)
class RunFiles:
    """A run: its stages in their order, those that never ran included."""

    path: Path
    stages: Sequence[StageFiles]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def stage(self, name: str) -> StageFiles | None:
        """A stage that left something, or None."""
        found = (s for s in self.stages if s.name == name and s.state != MISSING)
        return next(found, None)

    @property
    def finished(self) -> list[StageFiles]:
        """Done, and made from the stages before as they stand now."""
        done = [stage for stage in self.stages if stage.state == DONE]
        return [stage for stage in done if is_current(self.path, stage.name)]

    def figures(self) -> dict[str, float]:
        """The flat figures of all finished stages, later ones over earlier ones, and the times."""
        merged: dict[str, float] = {}
        for stage in self.finished:
            merged |= stage.manifest.get("figures", {})
        merged |= {f"seconds.{stage.name}": stage.seconds for stage in self.finished}
        merged["seconds.total"] = round(sum(stage.seconds for stage in self.finished), 3)
        peaks = [stage.manifest.get("peak_memory_bytes", 0) for stage in self.finished]
        merged["peak_memory_bytes"] = max(peaks, default=0)
        return merged


def read_run(run: Path) -> RunFiles:
    """What is in the run directory ``run``; raises InputError when no stage ever began there."""
    if not run.is_dir():
        raise InputError(f"{run} is no run directory", remedy="name runs/<name>")
    own = [name.removesuffix(".partial") for name in _folders(run)]
    names = [*STAGES, *(name for name in sorted(set(own)) if name not in STAGES)]
    optional = {"honesty", "dpo", "ppo", "grpo", "ground"}
    stages = [_stage(run, name) for name in names]
    shown = [s for s in stages if s.state != MISSING or s.name not in optional]
    if all(stage.state == MISSING for stage in shown):
        raise InputError(
            f"{run} holds no stage of a run",
            remedy="name the folder that `fledge run` wrote, such as runs/bridges",
        )
    return RunFiles(run, shown)


def _folders(run: Path) -> list[str]:
    """Names of the folders of stages, finished or not."""
    found = (path for path in sorted(run.iterdir()) if path.is_dir())
    return [p.name for p in found if (p / MANIFEST).is_file() or (p / KEY).is_file()]


def _stage(run: Path, name: str) -> StageFiles:
    final, partial = run / name, run / f"{name}.partial"
    if (final / MANIFEST).is_file():
        return StageFiles(name, final, DONE, _object(final / MANIFEST))
    if (partial / KEY).is_file():
        return StageFiles(name, partial, UNFINISHED, _object(partial / KEY))
    return StageFiles(name, final, MISSING, {})


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no object", remedy="run the stage again")
    return value


def details(run: RunFiles) -> dict[str, Any]:
    """What ``report.json`` tells beside the figures."""
    return {
        stage.name: {
            "state": stage.state,
            **{k: v for k, v in stage.manifest.items() if k not in ("outputs", "stage")},
            "outputs": len(stage.manifest.get("outputs", {})),
        }
        for stage in run.stages
    }
