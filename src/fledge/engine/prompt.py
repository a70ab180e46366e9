"""Logits behind a prompt's tokens in, what the model thought of each token out."""

from __future__ import annotations

from collections.abc import Sequence

from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.logprobs import before_chain
from fledge.engine.chain.sampler import Choice
from fledge.engine.step import Piece


class PromptReader:
    """Collects the log-probabilities of ``prompt`` as its pieces are computed.

    ``vocabulary``: columns of the logits that are tokens; ``top``: likeliest tokens to report.
    """

    def __init__(self, prompt: Sequence[int], vocabulary: int, top: int) -> None:
        self._prompt, self._vocabulary, self._top = prompt, vocabulary, top
        self._found: list[Choice] = []

    @property
    def choices(self) -> tuple[Choice, ...]:
        """One for each token but the first."""
        return tuple(self._found)

    def read(self, piece: Piece, rows: Floats) -> Floats:
        """Keep what tells of the prompt; the row behind its last token, if it is there: (0|1,V)."""
        first = piece.start + len(piece.tokens) - len(rows)  # the token that row 0 is behind
        for row, place in zip(rows, range(first + 1, len(self._prompt)), strict=False):
            token = self._prompt[place]
            seen = before_chain(row[: self._vocabulary], token, self._top)
            self._found.append(Choice(token, seen))
        return rows[len(self._prompt) - 1 - first :]
