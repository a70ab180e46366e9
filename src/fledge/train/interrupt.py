"""Ctrl-C and SIGTERM between two steps, never inside one, so that a saved state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredInterrupt:
    """While active, the first Ctrl-C or SIGTERM only sets ``asked``; a second one interrupts.

    ``patient``: the second does nothing either, as torchrun passes on what the terminal has sent
    already.  What follows is a KeyboardInterrupt in any case.  Outside the main thread, where
    Python takes no signals, it does nothing.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.asked = False
        self._patient = patient
        self._active = threading.current_thread() is threading.main_thread()
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> DeferredInterrupt:
        if self._active:
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, former in self._former.items():
            # None: a handler that was not set from Python and cannot be put back.
            handler = signal.SIG_DFL if former is None else former
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self._patient:
            raise KeyboardInterrupt
        self.asked = True
