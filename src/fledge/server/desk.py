"""The desk: clients wait in line, answers are written in turn by one worker thread.

Each step of each running answer is one job of the thread, first come first served: so answers
progress side by side, and a long one does not hold up a short one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from fledge.core.protocols import Delta
from fledge.server.errors import ApiError

T = TypeVar("T")

RETRY_SECONDS = 5
"""What a refused client is told to wait."""


class Desk:
    """``concurrent`` answers at a time, ``waiting`` more in line, others are refused."""

    def __init__(self, *, concurrent: int, waiting: int) -> None:
        self.draining = False
        """Whether new requests are refused because the server stops."""
        self.inside = 0
        """Requests running or in line."""
        self._places = concurrent + waiting
        self._turns = asyncio.Semaphore(concurrent)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fledge-desk")

    async def deltas(self, start: Callable[[], Iterator[Delta]]) -> AsyncIterator[Delta]:
        """The pieces of the answer that ``start`` begins, when it is this request's turn.

        Cancelling or closing this iterator stops the generation.  Raises ApiError 429 when the
        line is full, 503 while draining, and what the model raises.
        """
        async with self._turn():
            pieces = await self._work(start)
            try:
                while (delta := await self._work(partial(next, pieces, None))) is not None:
                    yield delta
            finally:
                # The thread may be inside a step of it; it closes the iterator after that.
                self._thread.submit(_close, pieces)

    async def aside(self, job: Callable[[], T]) -> T:
        """The result of work that may take a while, done beside the answers."""
        return await asyncio.get_running_loop().run_in_executor(None, job)

    def close(self) -> None:
        """Let the thread end when its current step is done."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        wait = {"Retry-After": str(RETRY_SECONDS)}
        if self.draining:
            raise ApiError(503, "the server is stopping", code="draining", headers=wait)
        if self.inside >= self._places:
            message = f"{self.inside} requests are running or waiting; try again later"
            raise ApiError(429, message, code="queue_full", headers=wait)
        self.inside += 1
        try:
            async with self._turns:
                yield
        finally:
            self.inside -= 1


def _close(pieces: Iterator[Delta]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
