"""What each step of an answer did: its seconds, tokens, what went in and out, what went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fledge.core.protocols import Usage


@dataclass(kw_only=True)
class Stage:
    """One step as it ran."""

    name: str
    seconds: float = 0.0
    results: int = 0
    """Chunks, passages or sentences it left."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of the language model, where it used one."""
    asked: tuple[str, ...] = ()
    """The texts it searched for or had written."""
    notes: list[str] = field(default_factory=list)
    """What did not go as planned, and what was done instead."""

    def used(self, usage: Usage) -> None:
        """Count the tokens of one call of a language model."""
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, without what is empty."""
        told = {**vars(self), "asked": list(self.asked), "seconds": round(self.seconds, 6)}
        return {key: value for key, value in told.items() if value or key in ("name", "seconds")}


class Trace(list[Stage]):
    """The steps of one answer, in the order they began."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a step; it is kept when the step fails, too."""
        stage = Stage(name=name)
        self.append(stage)
        start = time.perf_counter()
        try:
            yield stage
        finally:
            stage.seconds = time.perf_counter() - start

    @property
    def notes(self) -> list[str]:
        """All that did not go as planned: "hyde: the model wrote nothing"."""
        return [f"{stage.name}: {note}" for stage in self for note in stage.notes]

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(stage.seconds for stage in self)

    def to_json(self) -> list[dict[str, Any]]:
        """As plain JSON."""
        return [stage.to_json() for stage in self]
