"""The running average of the weights: kept beside them, put in their place to be judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Average(Optimizer):
    """Exponential moving average of weights, updated after every optimizer step.

    A <- d·A + (1 - d)·W with d = min(decay, (1 + n) / (10 + n)) at update n = 1, 2, …, so that
    the first weights are soon forgotten.  Half of the average comes from the last
    ln 2 / (1 - decay) steps: 693 at 0.999.  It costs one copy of the weights, in their type.

    It is no optimizer of its own: standing last in the list of them it is saved, resumed and
    sharded as they are, without a line in the loop.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        super().__init__(parameters, {"lr": 0.0, "decay": decay, "updates": 0})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Take the weights of this step into the average."""
        for group in self.param_groups:
            weights, averages = group["params"], self._averages(group["params"])
            group["updates"] += 1
            count = group["updates"]
            kept = min(group["decay"], (1 + count) / (10 + count))
            torch._foreach_lerp_(averages, weights, 1 - kept)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages; once more gives each back, bit for bit."""
        for group in self.param_groups:
            averages = self._averages(group["params"])
            for weight, average in zip(group["params"], averages, strict=True):
                before = weight.clone()
                weight.copy_(average)
                average.copy_(before)

    @torch.no_grad()
    def settle(self) -> None:
        """The weights become their averages, for good."""
        for group in self.param_groups:
            for weight, average in zip(
                group["params"], self._averages(group["params"]), strict=True
            ):
                weight.copy_(average)

    def _averages(self, weights: list[Tensor]) -> list[Tensor]:
        for weight in weights:
            if "average" not in self.state[weight]:
                self.state[weight]["average"] = weight.detach().clone()
        return [self.state[weight]["average"] for weight in weights]


def find_average(optimizers: Iterable[Optimizer]) -> Average | None:
    """The average among the optimizers, when the run keeps one."""
    return next((one for one in optimizers if isinstance(one, Average)), None)


@contextmanager
def averaged(optimizers: Iterable[Optimizer]) -> Iterator[None]:
    """Inside, the model has its average weights, when the run keeps one; as before afterwards."""
    average = find_average(optimizers)
    if average is None:
        yield
        return
    average.swap()
    try:
        yield
    finally:
        average.swap()


def settle(optimizers: Iterable[Optimizer]) -> None:
    """At the end of a run: the average, when there is one, becomes the model's weights."""
    average = find_average(optimizers)
    if average is not None:
        average.settle()
