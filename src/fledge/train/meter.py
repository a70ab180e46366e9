"""Steps and their tokens in; speed, share of the machine's peak, and what was waited for out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import torch

from fledge.core.run import peak_memory_bytes
from fledge.train.job import Training
from fledge.train.peak import matmul_peak


class Meter:
    """Measures the latest steps; what happens between them, validation and saving, is left out."""

    def __init__(
        self,
        *,
        flops_per_token: float,
        peak: float,
        steps: int = 10,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``peak``: FLOP/s of all processes together.  ``steps``: how many are looked back on."""
        self._flops_per_token, self._peak, self._clock = flops_per_token, peak, clock
        self._steps: deque[tuple[int, float, float]] = deque(maxlen=steps)
        self._begun = self._waited = 0.0

    def begin(self, waited: float) -> None:
        """A step begins.  ``waited``: seconds waited for data in the whole run so far."""
        self._begun, self._waited = self._clock(), waited

    def end(self, tokens: int, waited: float) -> None:
        """The step is done and has read ``tokens``."""
        self._steps.append((tokens, self._clock() - self._begun, waited - self._waited))

    def figures(self) -> dict[str, float]:
        """Of the latest steps: tokens a second, MFU, and the share of time waiting for data.

        MFU = tokens a second x FLOPs a token / measured peak (arXiv:2204.02311, B).
        """
        seconds = max(sum(taken for _, taken, _ in self._steps), 1e-9)
        rate = sum(tokens for tokens, _, _ in self._steps) / seconds
        return {
            "tokens_per_second": round(rate, 1),
            "mfu": round(rate * self._flops_per_token / self._peak, 4),
            "waiting": round(sum(waited for _, _, waited in self._steps) / seconds, 4),
        }


def make_meter(job: Training) -> Meter:
    """The meter of a run; measures the peak of this machine, which takes a moment."""
    shape = job.model.config.model_copy(update={"context": job.context})
    learning = sum(weight.numel() for weight in job.model.parameters() if weight.requires_grad)
    share = min(1.0, learning / shape.parameters)
    return Meter(
        # A third of the work is the gradients of weights, which frozen ones have none of.
        flops_per_token=shape.training_flops_per_token * (2 + share) / 3,
        peak=matmul_peak(job.model.compute_dtype, job.model.device) * job.world.size,
        steps=job.config.log_every,
    )


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: on the GPU, where there is one, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory_bytes()


def shown(figures: Mapping[str, float]) -> dict[str, str]:
    """The figures of a step for people, by short names."""
    return {
        "loss": f"{figures['loss']:.3f}",
        "tokens/s": f"{figures['tokens_per_second']:,.0f}",
        "MFU": f"{figures['mfu']:.0%}",
        "grad norm": f"{figures['grad_norm']:.3g}",
        "rate": f"{figures['lr']:.2e}",
        "memory": f"{figures['memory_bytes'] / 1e9:.2f} GB",
        "waiting": f"{figures['waiting']:.0%}",
    }
