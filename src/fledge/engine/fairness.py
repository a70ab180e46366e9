"""Whose turn it is: the client that was served least, by the tokens computed for it.

The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models"
(arXiv:2401.00588, algorithm 2): serve the client with the smallest counter, charge every computed
token, and lift the counter of a client that comes back from idleness to the smallest of the
active ones, so that credit is not saved up.  With all counters equal it is round robin.
"""

from __future__ import annotations

from collections.abc import Iterable


class FairShare:
    """Counters of the clients that have requests, and the debts of some that had."""

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._live: dict[str, int] = {}

    def enter(self, client: str) -> None:
        """The client has one more request."""
        if client not in self._live:
            floor = self._floor()
            self._counters[client] = max(self._counters.get(client, floor), floor)
            self._live[client] = 0
        self._live[client] += 1

    def leave(self, client: str) -> None:
        """The client has one request less.  Debts that a return would not feel are dropped."""
        self._live[client] -= 1
        if not self._live[client]:
            del self._live[client]
            floor = self._floor()
            self._counters = {
                name: count
                for name, count in self._counters.items()
                if name in self._live or (self._live and count > floor)
            }

    def charge(self, client: str, tokens: int) -> None:
        """That many tokens are computed for the client."""
        self._counters[client] += tokens

    def first(self, clients: Iterable[str]) -> str:
        """The one of ``clients`` served least; the earliest named among equals."""
        return min(clients, key=self._counters.__getitem__)

    def _floor(self) -> int:
        return min((self._counters[name] for name in self._live), default=0)
