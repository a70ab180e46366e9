"""Losses in, whether a step went wrong out: what is skipped, and when a run must go back.  Pure.

Loss spikes have two causes, and each has its remedy.

*The batch is odd.*  Its gradients are dropped before they reach the weights and the next batch is
taken for the step, as OLMo 2 does (arXiv:2501.00656).  Because training is deterministic, going
back and doing the same steps again without that batch would give the very same weights.

*The weights went bad some steps ago.*  Then the following batches are bad, too.  Three of them
within ``WINDOW`` steps, and the run goes back to a state of before the first, and on with the
data behind the last: PaLM restarted about 100 steps before a spike and skipped the batches of
before and during it (arXiv:2204.02311, 5.1).  The schedule goes back with the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

WINDOW = 64
"""Losses from which the usual one and its spread are taken."""

PATIENCE = 3
"""Bad batches within ``WINDOW`` steps for which the weights are blamed."""

SMALLEST = 0.25
"""Nats above the median below which nothing is a spike."""

NORMAL = 1.4826
"""Standard deviations of a normal distribution in a median absolute deviation."""


def loss_limit(recent: Sequence[float], sigma: float) -> float:
    """The largest usual loss after the losses ``recent``; infinite before ``WINDOW`` of them.

    Median + sigma x 1.4826 x median absolute deviation: a spike in ``recent`` does not raise it.
    """
    if not sigma or len(recent) < WINDOW:
        return math.inf
    middle = median(recent)
    spread = NORMAL * median(abs(loss - middle) for loss in recent)
    return middle + max(sigma * spread, SMALLEST)


def find_fault(loss: float, norm: float, recent: Sequence[float], sigma: float) -> str | None:
    """What is wrong with a step of this loss and gradient norm, in words, or None."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        return f"loss {loss:.4g}, gradient norm {norm:.4g}"
    limit = loss_limit(recent, sigma)
    return f"loss {loss:.4g}, where at most {limit:.4g} is usual" if loss > limit else None


def latest(faults: Sequence[int], step: int) -> list[int]:
    """The faults, as steps, that lie within ``WINDOW`` steps of ``step``, and one at it."""
    return [*(fault for fault in faults if fault > step - WINDOW), step]


def weights_are_bad(faults: Sequence[int]) -> bool:
    """Whether so many recent faults mean that the weights, not the batches, are to blame."""
    return len(faults) >= PATIENCE


def rewind_spacing(asked: int | None, steps: int) -> int:
    """Steps between the states to go back to, of a run of ``steps``."""
    return asked or min(max(100, steps // 20), 1000)
