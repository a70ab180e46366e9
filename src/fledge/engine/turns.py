"""Threads that wait for tokens in, one of them at a time allowed to compute a step for all.

A plain lock would starve the others: who has just made a step has it again before they wake.  So
whoever has news is woken alone, and whoever comes or goes is let in before the next step.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Inbox:
    """Where those who asked find what is new: (number of the job, news), the oldest first."""

    def __init__(self) -> None:
        self.news: deque[tuple[int, Any]] = deque()
        self.open = 0
        """Jobs that will tell more."""

    @property
    def waiting(self) -> bool:
        """Whether there is nothing new, and more is to come."""
        return not self.news and self.open > 0


class Turns:
    """Who may step, who waits, and who stands at the door.

    Threads go by their numbers, so that one that Ctrl-C took out of here at a bad moment does not
    wait for itself when it comes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows; never held during a step
        self._stepper: int | None = None
        self._waiting: dict[int, tuple[Inbox, threading.Condition]] = {}
        self._door = threading.Condition(self._lock)
        self._knocking: set[int] = set()
        self._engine = threading.Lock()  # held during a step, and by who came in

    def take(self, inbox: Inbox) -> bool:
        """Wait until there is news (False), or until it is this thread's turn to step (True)."""
        with self._lock:
            me = threading.get_ident()
            if self._stepper == me:
                self._stepper = None
            if self._stepper is not None:
                self._wait(inbox)
            if not inbox.waiting:
                self._ring_one()
                return False
            self._stepper = me
            return True

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step, when it is this thread's turn; then those with news are woken."""
        if self._knocking:
            me = {threading.get_ident()}
            with self._lock:
                self._door.wait_for(lambda: not self._knocking - me)
        with self._engine:
            yield
        if self._waiting:
            with self._lock:
                for inbox, bell in self._waiting.values():
                    if not inbox.waiting:
                        bell.notify()

    def give_up(self) -> None:
        """This thread steps no more: another one may."""
        with self._lock:
            self._stepper = None
            self._ring_one()

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Around what must not happen during a step."""
        me = threading.get_ident()
        with self._lock:
            self._knocking.add(me)
        try:
            with self._engine:
                yield
        finally:
            with self._lock:
                self._knocking.discard(me)
                self._door.notify_all()

    def _wait(self, inbox: Inbox) -> None:
        bell = threading.Condition(self._lock)
        self._waiting[id(inbox)] = (inbox, bell)
        try:
            while self._stepper is not None and inbox.waiting:
                bell.wait()
        except BaseException:  # Ctrl-C: it may have been this thread's turn
            self._waiting.pop(id(inbox))
            self._ring_one()
            raise
        self._waiting.pop(id(inbox))

    def _ring_one(self) -> None:
        """Wake a thread to step, if none does."""
        if self._stepper is None:
            for _, bell in self._waiting.values():
                bell.notify()
                return
