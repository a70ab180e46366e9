"""Prompt lookup: a sequence's own tokens in, a guess at its next ones out, for speculation.

When the last tokens occurred before, what followed them then is the guess: answers that quote,
correct or summarise their prompt repeat it.  The idea is Saxena's (prompt-lookup-decoding, 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class NgramIndex:
    """Where each run of ``shortest`` to ``longest`` tokens was last followed by something.

    A token costs ``longest`` dictionary entries, however long the sequence is.
    """

    def __init__(self, tokens: Iterable[int] = (), *, shortest: int = 2, longest: int = 4) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError(f"1 <= shortest <= longest, not {shortest} and {longest}")
        self._lengths = range(longest, shortest - 1, -1)
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """``token`` joins the sequence: it follows what stood at its end."""
        for run in self._ends():
            self._after[run] = len(self._tokens)
        self._tokens.append(token)

    def guess(self, limit: int) -> tuple[int, ...]:
        """Up to ``limit`` tokens that may come next; none when the end is new.

        The longest run counts, and its last occurrence.  A guess that reaches the end of the
        sequence goes on with itself, so that a repeated phrase is guessed on and on.
        """
        for run in self._ends():
            start = self._after.get(run)
            if start is not None:
                return _copied(self._tokens, start, limit)
        return ()

    def _ends(self) -> Iterable[tuple[int, ...]]:
        """The sequence's last tokens, the longest run first."""
        size = len(self._tokens)
        return (tuple(self._tokens[size - n :]) for n in self._lengths if n <= size)


def _copied(tokens: Sequence[int], start: int, count: int) -> tuple[int, ...]:
    """``count`` tokens from ``start``, the copy itself being read behind the end (as in LZ77)."""
    period = len(tokens) - start
    return tuple(tokens[start + i % period] for i in range(count))
