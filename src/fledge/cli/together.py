"""The same command in several processes, under torchrun: who does what, and who speaks.

A stage that trains runs in all of them.  Everything else is done by the main one while the others
wait for its result.  Without torchrun nothing of PyTorch is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from fledge.core.config import Config

Value = TypeVar("Value")


class Company(Protocol):
    """The processes that run this command."""

    @property
    def is_main(self) -> bool:
        """Whether this one writes and speaks."""

    def first(self, work: Callable[[], Value]) -> Value:
        """The result of ``work``, a JSON value; the main process does it, the others wait."""


class Alone:
    """One process, the usual case."""

    is_main = True

    def first(self, work: Callable[[], Value]) -> Value:
        """Just does it."""
        return work()


ALONE = Alone()


def number_of_process() -> int:
    """The number of this process among those that run the command; 0 is the main one."""
    text = os.environ.get("RANK", "0") if are_several() else "0"
    return int(text) if text.isdecimal() else 0


def are_several() -> bool:
    """Whether torchrun, or who sets its variables, started several processes."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


@contextmanager
def company(*configs: Config) -> Iterator[Company]:
    """The processes of this command, connected; ``configs`` of the stages say on what device."""
    if not are_several():
        yield ALONE
        return
    from fledge.train.config import LoopConfig
    from fledge.train.world import join_world

    training = [config for config in configs if isinstance(config, LoopConfig)]
    with join_world(training[0] if training else LoopConfig(device="cpu")) as world:
        yield world
