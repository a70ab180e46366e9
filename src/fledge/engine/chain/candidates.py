"""Tokens that may still be drawn, with their logits: what the steps of the chain pass on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """``logits`` (n,) of the tokens ``ids`` (n,), ascending; ids None: all tokens, 0..n-1.

    A logit of minus infinity is a token that cannot be drawn.  Steps never write into an array
    they were given.
    """

    logits: Floats
    ids: Ids | None = None

    def keep(self, positions: Ids) -> Candidates:
        """Those at ``positions`` (m,), ascending."""
        ids = positions if self.ids is None else self.ids[positions]
        return Candidates(self.logits[positions], ids)

    def token(self, position: int) -> int:
        """The id at a position."""
        return int(position if self.ids is None else self.ids[position])

    def positions(self, tokens: Ids) -> Ids:
        """Where those of ``tokens`` that are candidates stand; the others are left out."""
        if self.ids is None:
            return tokens[tokens < len(self.logits)]
        found = np.searchsorted(self.ids, tokens)
        found[found == len(self.ids)] = 0
        there: Ids = found[self.ids[found] == tokens]
        return there
