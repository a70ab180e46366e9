"""The tokens of a request so far, as the penalties need them: which, and how often drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fledge.engine.chain.candidates import Floats, Ids


class History:
    """Distinct tokens of prompt and answer; a token costs the same however long both are."""

    def __init__(self, prompt: Sequence[int]) -> None:
        distinct = list(dict.fromkeys(prompt))
        self._slots = {token: slot for slot, token in enumerate(distinct)}
        self._ids = np.array(distinct, np.int64)
        self._counts = np.zeros(len(distinct), np.float32)
        self.drawn = 0
        """Tokens of the answer."""

    @property
    def seen(self) -> Ids:
        """The distinct tokens of prompt and answer: (n,)"""
        return self._ids[: len(self._slots)]

    @property
    def counts(self) -> Floats:
        """How often the answer has each token of ``seen``: (n,)"""
        return self._counts[: len(self._slots)]

    def push(self, token: int) -> None:
        """``token`` joins the answer."""
        self.drawn += 1
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros(slot + 16, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(slot + 16, np.float32)])
        self._ids[slot] = token
        self._counts[slot] += 1
