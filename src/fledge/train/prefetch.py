"""Batches in, the same batches out, each built while the step before it computes."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from types import TracebackType

from fledge.train.batch import Batch, Batches

AHEAD = 2
"""Batches built before they are asked for."""


class Prefetched:
    """``batches`` with the next few steps built by a thread while the caller computes.

    Use it as a context: at its end, however it ends, the thread is gone.  An error in the thread
    is raised where the batch is asked for, with the thread's traceback.  Steps may be asked for
    in any order, in sequence they come without waiting.  Nothing is built from step ``stop`` on
    until it is asked for.  With ``ahead`` 0 there is no thread: a batch that depends on the
    weights is built when they are ready.
    """

    def __init__(self, batches: Batches, *, ahead: int = AHEAD, stop: int | None = None) -> None:
        self._batches = batches
        self._shared = _Shared(batches, ahead, stop)
        self._thread: threading.Thread | None = None
        self._finalizer = weakref.finalize(self, self._shared.close)  # a dropped one ends, too
        self.waited_seconds = 0.0
        """How long callers waited for batches so far."""

    def __enter__(self) -> Prefetched:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread and wait for it; asking for a batch starts another."""
        self._shared.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._shared.reopen()

    def fingerprint(self) -> str:
        """Names the data and its order."""
        return self._batches.fingerprint()

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``; raises what building it raised."""
        begun = time.monotonic()
        if self._shared.ahead == 0:
            batch = self._batches[step]
            self.waited_seconds += time.monotonic() - begun
            return batch
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._shared.work, name="fledge-batches", daemon=True
            )
            self._thread.start()
        try:
            return self._shared.take(step)
        finally:
            self.waited_seconds += time.monotonic() - begun


class _Shared:
    """What caller and thread share: the batches built, and what to build next."""

    def __init__(self, batches: Batches, ahead: int, stop: int | None) -> None:
        self._batches, self.ahead, self._stop = batches, ahead, stop
        self._changed = threading.Condition()
        self._built: deque[tuple[int, Batch | BaseException]] = deque()
        self._next: int | None = None  # the step to build; None: nothing was asked for
        self._wanted = -1
        self._closed = False

    def take(self, step: int) -> Batch:
        """The batch of ``step`` once it is there."""
        with self._changed:
            self._wanted = step
            if not any(number == step for number, _ in self._built) and self._next != step:
                self._built.clear()
                self._next = step
            self._changed.notify_all()
            while not any(number == step for number, _ in self._built):
                self._changed.wait()
            while self._built[0][0] != step:
                self._built.popleft()
            _, found = self._built.popleft()
            if isinstance(found, BaseException):
                self._next = None  # asked for again, it is tried again
                raise found
            self._wanted = -1
            self._changed.notify_all()
            return found

    def work(self) -> None:
        """Build batches until closed."""
        while True:
            with self._changed:
                while not self._closed and not self._due():
                    self._changed.wait()
                step = self._next
                if self._closed or step is None:
                    return
            result: Batch | BaseException
            try:
                result = self._batches[step]
            except BaseException as error:  # handed to the caller, whatever it is
                result = error
            with self._changed:
                if self._next == step:  # else another step was asked for meanwhile
                    self._built.append((step, result))
                    self._next = None if isinstance(result, BaseException) else step + 1
                    self._changed.notify_all()

    def _due(self) -> bool:
        """Whether there is a batch to build now."""
        if self._next is None or len(self._built) >= self.ahead:
            return False
        return self._stop is None or self._next < self._stop or self._next == self._wanted

    def close(self) -> None:
        """Tell the thread to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def reopen(self) -> None:
        """Forget everything, ready for another thread."""
        with self._changed:
            self._closed, self._next, self._wanted = False, None, -1
            self._built.clear()
