"""What a scheduler asks of a runner: the tokens to compute in one step, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tokens of one sequence to compute in a step: positions start .. start+len(tokens)."""

    sequence: int
    """The scheduler's number of the sequence."""

    tokens: tuple[int, ...]
    """At least one."""

    start: int
    """Position of the first token; everything before it is already in the blocks."""

    blocks: tuple[int, ...]
    """The sequence's block table, long enough for start+len(tokens) positions."""

    wants_logits: bool
    """Whether the logits after its last token are needed."""

    scope: tuple[str, ...] = ()
    """The key of the LoRA adapter that changes its weights; empty: none."""

    logits_from: int = -1
    """With ``wants_logits``: logits after each of ``tokens[logits_from:]``, in order.

    -1 is the last token alone.  A draft to be verified asks for one row per token.
    """

    @property
    def rows(self) -> int:
        """How many rows of logits the piece adds to the runner's answer."""
        return len(self.tokens[self.logits_from :]) if self.wants_logits else 0


@dataclass(frozen=True)
class Step:
    """One call of the runner: first the copies, in order, then all pieces at once."""

    pieces: tuple[Piece, ...]

    copies: tuple[tuple[int, int], ...] = ()
    """(source, target) blocks to copy whole before anything is computed."""
