"""Figures of a run in, Weights & Biases told, where the user asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.train.job import Training

PROJECT = "fledge"
"""The project when none is named."""


class Tracker(Protocol):
    """Where figures go besides the journal."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures after a step."""

    def close(self) -> None:
        """Nothing follows."""


class WandbTracker:
    """A run at Weights & Biases, continued when the training is."""

    def __init__(self, job: Training) -> None:
        """Raises InputError when the package is missing or refuses, say for want of a login."""
        wanted = job.config.wandb
        try:
            import wandb
        except ImportError:
            raise InputError(
                f"wandb = {wanted!r} needs the package wandb, which is not installed",
                remedy="pip install wandb, or set wandb = false",
            ) from None
        logs = job.out / "logs"
        note = logs / "wandb.json"
        known = read_json(note)["id"] if note.is_file() else None
        try:
            self._run: Any = wandb.init(
                project=wanted if isinstance(wanted, str) else PROJECT,
                name=_name(job),
                id=known,
                resume="allow",
                dir=str(logs),
                config=job.config.model_dump(mode="json"),
            )
        except Exception as error:  # the package's own errors share no base class
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"wandb = {wanted!r}: the package refused ({reason})",
                remedy="run `wandb login`, or set the variable WANDB_MODE to offline",
            ) from None
        write_json(note, {"id": self._run.id})
        # After going back a step comes twice; only a metric of its own may do so.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({"step": step, **figures})

    def close(self) -> None:
        self._run.finish()


def start_tracking(job: Training) -> Tracker | None:
    """A tracker where the config asks for one."""
    return WandbTracker(job) if job.config.wandb and job.world.is_main else None


def _name(job: Training) -> str:
    """The run directory and the stage: bridges/pretrain."""
    folder: Path = job.out.resolve()
    return f"{folder.parent.name}/{folder.name.removesuffix('.partial')}"
