"""Measure a model: tasks (a set, a solver, a scorer), the ladder of rungs, bits per byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.evals.config import EvalsConfig as EvalsConfig
    from fledge.evals.ladder import evaluate_ladder as evaluate_ladder
    from fledge.evals.tasks import Task as Task
    from fledge.evals.tasks import load_task as load_task
    from fledge.evals.tasks import run_task as run_task
    from fledge.evals.text import evaluate_text as evaluate_text

__all__ = ["EvalsConfig", "Task", "evaluate_ladder", "evaluate_text", "load_task", "run_task"]

__getattr__ = facade(
    __name__,
    {
        "EvalsConfig": "config",
        "Task": "tasks",
        "evaluate_ladder": "ladder",
        "evaluate_text": "text",
        "load_task": "tasks",
        "run_task": "tasks",
    },
)
