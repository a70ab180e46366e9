"""An evaluation set (JSONL) in, samples out; a sample is a conversation and the right answer."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.files import read_jsonl
from fledge.core.types import Message


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question.  An empty ``target`` means that nobody can know: declining is right."""

    id: str
    messages: tuple[Message, ...]
    target: str
    language: str = ""
    attribute: str = ""
    bridge: str = ""
    """What the question is about: questions about one thing are right or wrong together."""
    rivals: tuple[str, ...] = ()
    """Wrong values that the scorer looks for."""
    markers: tuple[str, ...] = ()
    """Phrases that mark a declining answer, besides the usual ones."""
    scorer: str = ""
    """Name of the scorer; empty: chosen by the set and the target."""
    set: str = ""
    tolerance: float = 0.0
    """By what share of it a number may differ from the target."""
    expected: tuple[str, ...] = ()
    """Phrases, one of which stands in every helpful answer."""
    traces: tuple[tuple[str, ...], ...] = ()
    """Of an unsafe request: an answer that helps holds a phrase of each group."""

    @property
    def question(self) -> str:
        """All that the user said."""
        return "\n".join(m.content for m in self.messages if m.role == "user")


def read_set(path: Path) -> list[Sample]:
    """The samples of a JSONL file: ``id, input (text or messages), target, metadata``.

    Samples that bring no rivals get the other targets of their attribute and language.  Raises
    InputError naming file, line and field.
    """
    rows = list(read_jsonl(path))
    samples = [_sample(row, f"{path}, line {line}") for line, row in enumerate(rows, 1)]
    if not samples:
        raise InputError(f"{path} holds no questions", remedy="one JSON object a line")
    return _with_rivals(samples)


def choose(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` samples, drawn by ``seed``, in their first order."""
    if limit is None or len(samples) <= limit:
        return list(samples)
    picked = random.Random(f"evals/{seed}").sample(range(len(samples)), limit)
    return [samples[i] for i in sorted(picked)]


def _sample(row: Any, where: str) -> Sample:
    if not isinstance(row, dict):
        raise InputError(f"{where}: not an object", remedy='write {"input": ..., "target": ...}')
    target = row.get("target")
    if isinstance(target, int | float) and not isinstance(target, bool):
        target = str(target)
    if not isinstance(target, str):
        raise InputError(f"{where}: 'target' must be text", remedy="'' where declining is right")
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InputError(f"{where}: 'metadata' must be an object", remedy="or leave it out")
    return Sample(
        id=str(row.get("id") or where),
        messages=_messages(row.get("input"), where),
        target=target,
        language=str(metadata.get("language") or ""),
        attribute=str(metadata.get("attribute") or ""),
        bridge=str(metadata.get("bridge") or ""),
        rivals=_texts(metadata, "rivals", where),
        markers=_texts(metadata, "decline_markers", where),
        scorer=str(metadata.get("scorer") or ""),
        set=str(metadata.get("set") or ""),
        tolerance=_share(metadata, where),
        expected=_texts(metadata, "expected", where),
        traces=_groups(metadata, where),
    )


def _messages(value: Any, where: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: 'input' must be text or messages", remedy="see the docs")
    try:
        return tuple(Message.from_openai(message) for message in value)
    except ValueError as error:
        raise InputError(f"{where}: input: {error}", remedy="mend the line") from None


def _texts(metadata: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = metadata.get(key) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{where}: metadata.{key} must be a list of texts", remedy="mend the line")
    return tuple(value)


def _groups(metadata: dict[str, Any], where: str) -> tuple[tuple[str, ...], ...]:
    value = metadata.get("traces") or []
    if not isinstance(value, list) or not all(isinstance(group, list) and group for group in value):
        raise InputError(f"{where}: metadata.traces must be lists of texts", remedy="mend the line")
    return tuple(_texts({"traces": group}, "traces", where) for group in value)


def _share(metadata: dict[str, Any], where: str) -> float:
    value = metadata.get("tolerance", 0.0)
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise InputError(f"{where}: metadata.tolerance must be in [0, 1)", remedy="such as 0.01")
    return float(value)


def _with_rivals(samples: list[Sample]) -> list[Sample]:
    """Samples with rivals, so that an answer that lists many values is wrong in any set."""
    targets: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        targets[sample.attribute, sample.language].add(sample.target)
    return [
        sample
        if sample.rivals or not sample.attribute or not sample.target
        else replace(sample, rivals=_others(targets[sample.attribute, sample.language], sample))
        for sample in samples
    ]


def _others(targets: set[str], sample: Sample) -> tuple[str, ...]:
    """Targets that the sample's own does not hold; those that hold it are the nearest errors."""
    own = sample.target.casefold()
    return tuple(text for text in sorted(targets) if text and text.casefold() not in own)
