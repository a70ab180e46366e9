"""Bytes of tokens in, text that is safe to show out: whole characters, nothing of a stop text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Turns a token's bytes into text as soon as it is certain.

    Held back are the first bytes of an unfinished character, and an end of the text that may
    become one of ``stops``.  Bytes that can never become UTF-8 are shown as U+FFFD.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.text = ""
        """Everything given out so far."""
        self.stopped = False
        """Whether a stop text came; it and what follows are never given out."""

    def push(self, data: bytes) -> str:
        """The text that became certain with ``data``."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        cut = min((at for stop in self._stops if (at := self._held.find(stop)) >= 0), default=None)
        if cut is not None:
            self.stopped = True
            return self._give(cut, keep="")
        safe = len(self._held) - self._ambiguous()
        return self._give(safe, keep=self._held[safe:])

    def close(self) -> str:
        """The text held back for a stop that never came.  An unfinished character is dropped."""
        return self._give(len(self._held), keep="")

    def _give(self, length: int, keep: str) -> str:
        piece, self._held = self._held[:length], keep
        self.text += piece
        return piece

    def _ambiguous(self) -> int:
        """Length of the longest end of the held text that begins one of the stops."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
