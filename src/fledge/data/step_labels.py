"""Files of answers whose steps are labelled right or wrong in; prompts, steps and labels out.

{"prompt": "…" or [messages], "completions": ["step", …], "labels": [true, false, …]}     TRL
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.types import Message
from fledge.data.json_rows import read_parsed


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """An answer in steps.  ``origin`` names its file and line."""

    prompt: tuple[Message, ...]
    steps: tuple[str, ...]
    right: tuple[bool, ...]
    origin: str = ""


def read_steps(path: Path) -> Iterator[Stepped]:
    """The answers of a file; raises InputError naming file, line and field."""
    return read_parsed(path, "labelled steps", lambda row, origin: [parse_steps(row, origin)])


def parse_steps(row: Any, origin: str = "") -> Stepped:
    """The answer of a row; raises ValueError naming the field that is wrong."""
    if not isinstance(row, dict) or not {"prompt", "completions", "labels"} <= set(row):
        raise ValueError("expected an object with 'prompt', 'completions' and 'labels'")
    steps, labels = row["completions"], row["labels"]
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ValueError("'completions' must be a list of texts")
    if not isinstance(labels, list) or any(label not in (True, False) for label in labels):
        raise ValueError("'labels' must be a list of true and false")
    if len(steps) != len(labels) or not steps:
        raise ValueError(f"{len(steps)} 'completions' and {len(labels)} 'labels'")
    asked = row["prompt"]
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        raise ValueError("'prompt' must be text or a list of messages")
    return Stepped(
        prompt=tuple(Message.from_openai(message) for message in asked),
        steps=tuple(steps),
        right=tuple(bool(label) for label in labels),
        origin=origin,
    )
