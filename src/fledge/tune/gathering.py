"""What a stage learns and holds out of the examples it read, and why it left out the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fledge.core.errors import InputError
from fledge.core.protocols import Progress

Item = TypeVar("Item")


@dataclass(kw_only=True)
class Tally:
    """What became of examples."""

    noun: str
    """What they are, in the plural."""
    reasons: Mapping[str, str]
    """Why one is left out, for people; ``{context}`` stands for the tokens that fit."""
    read: int = 0
    truncated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """By the keys of ``reasons``, all of them."""
    first_refusal: InputError | None = None
    """What the template said of the first that does not fit it."""

    def __post_init__(self) -> None:
        self.dropped = dict.fromkeys(self.reasons, 0) | self.dropped

    def drop(self, reason: str, error: InputError | None = None) -> None:
        """Count an example that is left out."""
        self.dropped[reason] += 1
        self.first_refusal = self.first_refusal or error

    def say(self, context: int, cut: str, progress: Progress) -> None:
        """Tell what was left out, and how the others were ``cut``."""
        parts = [
            f"{count:,} {self.reasons[reason].format(context=context)}"
            for reason, count in self.dropped.items()
            if count
        ]
        if parts:
            progress.say(f"of {self.read:,} {self.noun}, {', '.join(parts)}: left out")
        if self.first_refusal is not None:
            progress.say(f"  the first: {self.first_refusal.message}")
        if self.truncated:
            progress.say(f"{self.truncated:,} {self.noun} {cut}")


@dataclass(frozen=True, kw_only=True)
class Gathered(Generic[Item]):
    """Examples ready to be learnt, and what became of the others."""

    trained: list[Item]
    held_out: list[Item]
    tally: Tally

    @classmethod
    def of(cls, kept: Sequence[Item], apart: Sequence[bool], tally: Tally) -> Gathered[Item]:
        """``apart`` says which of the examples that were kept are held out."""
        return cls(
            trained=[one for one, out in zip(kept, apart, strict=True) if not out],
            held_out=[one for one, out in zip(kept, apart, strict=True) if out],
            tally=tally,
        )

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        return {
            self.tally.noun: self.tally.read,
            "trained": len(self.trained),
            "held_out": len(self.held_out),
            **{f"dropped_{reason}": count for reason, count in self.tally.dropped.items()},
            "truncated": self.tally.truncated,
        }
