"""What a rollout teaches by: flat arrays in, files out.

``<stage>/rollouts/step-000012.safetensors`` holds the arrays, written last; the ``.jsonl`` beside
it says the same to people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fledge.core.errors import InputError
from fledge.core.files import replacing, write_jsonl
from fledge.tune.rollouts import Answered

Floats = NDArray[np.float32]


@dataclass(kw_only=True)
class Experience:
    """N answers end to end, M tokens in all.  ``signals`` are of each token as a target."""

    ids: NDArray[np.int32]
    """(M)"""
    learnt: NDArray[np.bool_]
    """(M)"""
    lengths: NDArray[np.int32]
    """(N)"""
    rewards: Floats
    """(N)"""
    truncated: NDArray[np.bool_]
    """(N)"""
    signals: dict[str, Floats] = field(default_factory=dict)
    """Channel -> (M)"""
    facts: dict[str, float] = field(default_factory=dict)
    """What is known of the rollout as a whole."""

    @classmethod
    def of(cls, answers: Sequence[Answered], rewards: Sequence[float]) -> Experience:
        """Answers and what they earned."""
        drawn = [value for answer in answers for value in answer.drawn]
        return cls(
            ids=np.array([token for answer in answers for token in answer.ids], np.int32),
            learnt=np.array([one for answer in answers for one in answer.learnt], np.bool_),
            lengths=np.array([len(answer.ids) for answer in answers], np.int32),
            rewards=np.array(rewards, np.float32),
            truncated=np.array([answer.finish == "length" for answer in answers], np.bool_),
            signals={"drawn": np.array(drawn, np.float32)},
        )

    @property
    def starts(self) -> NDArray[np.int64]:
        """(N): where each answer begins."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def drawn_tokens(self) -> NDArray[np.int64]:
        """(N): how many tokens of each answer the model drew."""
        return np.add.reduceat(self.learnt.astype(np.int64), self.starts)

    def spread(self, of_answers: Floats) -> Floats:
        """A number of each answer (N) at each of its tokens (M)."""
        return np.repeat(of_answers.astype(np.float32), self.lengths)

    def save(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write both files of ``path`` (without suffix), each whole or not at all."""
        write_jsonl(path.with_suffix(".jsonl"), rows)
        arrays: dict[str, NDArray[Any]] = {
            "ids": self.ids,
            "learnt": self.learnt.astype(np.uint8),
            "lengths": self.lengths,
            "rewards": self.rewards,
            "truncated": self.truncated.astype(np.uint8),
            **{f"signals.{name}": values for name, values in self.signals.items()},
        }
        # The format's own metadata is written in an order that differs from process to process.
        arrays["facts"] = np.frombuffer(json.dumps(self.facts).encode(), np.uint8)
        with replacing(path.with_suffix(".safetensors")) as temporary:
            save_file(arrays, temporary)

    @classmethod
    def load(cls, path: Path) -> Experience | None:
        """The rollout of ``path`` (without suffix), or None when it was not finished."""
        file = path.with_suffix(".safetensors")
        if not file.is_file():
            return None
        try:
            arrays = load_file(file)
            return cls(
                ids=arrays["ids"],
                learnt=arrays["learnt"].astype(np.bool_),
                lengths=arrays["lengths"],
                rewards=arrays["rewards"],
                truncated=arrays["truncated"].astype(np.bool_),
                signals={
                    name.partition(".")[2]: values
                    for name, values in arrays.items()
                    if name.startswith("signals.")
                },
                facts=json.loads(arrays["facts"].tobytes()),
            )
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise InputError(
                f"{file} is no rollout: {error}", remedy="delete it: it is drawn again"
            ) from None
