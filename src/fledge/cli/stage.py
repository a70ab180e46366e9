"""A stage of a recipe: its config, what it reads, and how its room is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.model.locate import RUNGS


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage is given: its config, finished stages' folders, where to write."""

    config: Config
    folders: dict[str, Path]
    out: Path
    progress: Progress

    def folder(self, stage: str) -> Path:
        """The folder of an earlier stage; raises InputError when the recipe lacks it."""
        if stage not in self.folders:
            raise InputError(f"this stage needs [{stage}]", remedy=f"add a table [{stage}] before")
        return self.folders[stage]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One table of a recipe."""

    config: type[Config]
    run: Callable[[Work], Outcome]
    reads: tuple[str, ...] = ()
    """Stages whose folders it reads when the recipe has them."""
    files: Callable[[Config], list[Path]] = field(default=lambda config: [])
    """Files and folders outside the run that the config names."""
    together: bool = False
    """Whether, under torchrun, all processes run it; otherwise the main one does."""


def rung_before(work: Work, stage: str) -> Path:
    """The model that a stage goes on from: of the highest rung before it."""
    before = RUNGS[: RUNGS.index(stage)] if stage in RUNGS else RUNGS
    found = [name for name in before if name in work.folders]
    return work.folder(found[-1] if found else "sft")


def named_files(what: str, paths: Sequence[str]) -> list[Path]:
    """The files; raises InputError for one that is not there."""
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{what}: {path} is no file", remedy="check the path")
    return [Path(path) for path in paths]


def given_or_sample(work: Work, key: str, paths: Sequence[str], *sample: str) -> list[Path]:
    """The files that ``key`` of the config names, or one of the sample world.

    Raises InputError where there is neither.
    """
    if paths:
        return [Path(path) for path in paths]
    if "samples" not in work.folders:
        raise InputError(f"{key} is empty", remedy="name your JSONL files")
    return [work.folders["samples"].joinpath(*sample)]
