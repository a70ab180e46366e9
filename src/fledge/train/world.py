"""The processes that train together: torchrun's environment in, sums and agreements out.

One process is the usual case and needs none of this: ``ALONE`` answers at once.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from fledge.core.errors import FledgeError, InputError
from fledge.train.batch import Batch
from fledge.train.config import LoopConfig

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others in an exchange before it gives up."""

LOOK_SECONDS = 0.1
"""Seconds between two looks for the main process's result."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes that train together."""

    rank: int = 0
    """The number of this process, from 0."""
    size: int = 1
    """How many processes there are."""
    local_rank: int = 0
    """The number of this process on its machine: which GPU is its own."""
    _store: dist.Store | None = field(default=None, repr=False, compare=False)
    _turns: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes, in float64; the same bits everywhere."""
        if self.size == 1:
            return tuple(float(value) for value in values)
        mine = torch.tensor(values, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(every, mine)
        return tuple(float(value) for value in torch.stack(every).sum(0))

    def any(self, flag: bool) -> bool:
        """True everywhere if ``flag`` is true anywhere."""
        return flag if self.size == 1 else self.sums(float(flag))[0] > 0

    def share(self, batch: Batch) -> Batch:
        """This process's contiguous rows of the batch of all.  (B,T) -> (B / size,T)

        Raises InputError when the rows do not divide.
        """
        if self.size == 1:
            return batch
        rows = batch.ids.shape[0]
        if rows % self.size:
            raise InputError(
                f"batch_rows = {rows} cannot be divided among {self.size} processes",
                remedy=f"set batch_rows to a multiple of {self.size}",
            )
        mine = rows // self.size
        return batch.each(lambda part: part[self.rank * mine : (self.rank + 1) * mine])

    def deal(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
        """Every ``size``-th batch, and the weight of a batch of each process.

        All processes get equally many: where batches run out, one of weight 0.
        """
        hand: list[Batch] = []
        for batch in batches:
            hand.append(batch)
            if len(hand) == self.size:
                yield self._drawn(hand)
                hand = []
        if hand:
            yield self._drawn(hand)

    def _drawn(self, hand: list[Batch]) -> tuple[Batch, float]:
        mine = hand[min(self.rank, len(hand) - 1)]
        if self.rank >= len(hand):
            mine = mine._replace(weights=torch.zeros_like(mine.weights))
        return mine, sum(float(batch.weights.sum()) for batch in hand)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            self.sums(0.0)

    def first(self, work: Callable[[], Value]) -> Value:
        """The result of ``work``, a JSON value, which the main process alone does.

        The others wait for it, however long it takes, and raise FledgeError when it fails.
        """
        if self.size == 1:
            return work()
        key = f"turn-{next(self._turns)}"
        if not self.is_main:
            told: Value = self._await(key)
            return told
        try:
            value = work()
        except BaseException:
            self._tell(key, {"failed": True})
            raise
        self._tell(key, {"value": value})
        return value

    def _tell(self, key: str, message: dict[str, object]) -> None:
        if self._store is not None:
            self._store.set(key, json.dumps(message))

    def _await(self, key: str) -> Any:
        if self._store is None:
            raise FledgeError("this process cannot wait", remedy="join the world first")
        # Looking, not waiting: a wait would be deaf to Ctrl-C, and end after a while.
        while not self._store.check([key]):
            time.sleep(LOOK_SECONDS)
        message = json.loads(self._store.get(key))
        if "failed" in message:
            raise FledgeError("the main process of this run stopped", remedy="see its own message")
        return message["value"]


ALONE = World()
"""The world of a process that trains by itself."""

_JOINED: ContextVar[World | None] = ContextVar("joined", default=None)


SILENCE = ("gloo", "nccl", "connection", "broken pipe", "timed out", "timeout", "socket")
"""Words in the errors of exchanges; torch raises them as plain RuntimeErrors, too."""


@contextmanager
def heard() -> Iterator[None]:
    """Turns the failure of an exchange into a message: another process is gone or too late."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        known = isinstance(error, dist.DistError)
        if not known and not any(word in reason.lower() for word in SILENCE):
            raise
        raise FledgeError(
            f"another process of this run stopped or fell silent ({reason[:160]})",
            remedy="see its own message above; the same command goes on from the last saved state",
        ) from error


def asked_size() -> int:
    """How many processes torchrun (or who sets its variables) has started; 1 without it."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


@contextmanager
def join_world(config: LoopConfig) -> Iterator[World]:
    """The world this process belongs to, by torchrun's RANK, WORLD_SIZE, LOCAL_RANK and MASTER_*.

    ALONE without them.  Joined again inside, it is the same world; it is left at the outer end.
    """
    joined = _JOINED.get()
    if joined is not None or asked_size() == 1:
        yield joined or ALONE
        return
    local_rank = _number("LOCAL_RANK", 0)
    gpu = config.device != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local_rank)
    with heard():
        board, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        store = dist.PrefixStore(_meet(board, rank, size), board)
        dist.init_process_group(
            # Numbers on CPU are exchanged too: sums, agreements, what a checkpoint consists of.
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=dist.PrefixStore("exchange", store),
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
    world = World(rank, size, local_rank, dist.PrefixStore("turns", store))
    token = _JOINED.set(world)
    try:
        with heard():
            yield world
    finally:
        _JOINED.reset(token)
    # Only after success: others may be waiting in an exchange, and leaving it in order would wait
    # for them.  The threads of gloo hold tensors, which must go before the interpreter does.
    world.barrier()
    dist.destroy_process_group()
    gc.collect()


def _meet(board: dist.Store, rank: int, size: int) -> str:
    """A word that all processes agree on, and that no former attempt has used.

    torchrun's restarts find the notes of those who died on the same board.  So each process
    signs with a word of its own; the main one posts the list of those it sees until every
    other has found itself in it and confirmed the main one's word.  Raises FledgeError when some
    do not come.
    """
    own, others = uuid4().hex, range(1, size)
    end = time.monotonic() + TIMEOUT.total_seconds()
    board.set(f"here-{rank}", own)
    while time.monotonic() < end:
        if rank == 0:
            seen = [_note(board, f"here-{other}") for other in others]
            board.set("list", json.dumps([own, *seen]))
            if all(_note(board, f"met-{other}") == own for other in others):
                return own
        else:
            posted = json.loads(_note(board, "list") or "[]")
            if len(posted) > rank and posted[rank] == own:
                board.set(f"met-{rank}", posted[0])
                return str(posted[0])
        time.sleep(LOOK_SECONDS)
    raise FledgeError(
        f"not all of {size} processes came together within {TIMEOUT}",
        remedy="see whether each machine runs torchrun and reaches MASTER_ADDR:MASTER_PORT",
    )


def _note(board: dist.Store, key: str) -> str:
    """What is written on the board; empty when nothing is."""
    return board.get(key).decode() if board.check([key]) else ""


def _number(name: str, default: int) -> int:
    """An environment variable as a number; raises InputError naming it."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise InputError(
            f"the environment variable {name} is {text!r}, which is no number",
            remedy="start with torchrun, or unset it",
        )
    return int(text)
