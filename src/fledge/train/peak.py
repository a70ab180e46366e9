"""A number type and a device in, the products a second this machine reaches at best out."""

from __future__ import annotations

import time
from functools import cache

import torch

SECONDS = 0.3
"""How long is measured."""

SIZES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices: large enough that nothing but the product counts."""


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the fastest of several square products, on as many threads as are set now.

    Measured once a process.  It is what a program on this machine can hope for, where a data
    sheet tells of a processor that runs at full clock and alone.
    """
    return _measured(dtype, device, torch.get_num_threads())


@cache
def _measured(dtype: torch.dtype, device: torch.device, threads: int) -> float:
    size = SIZES.get(device.type, 1024)
    # Numbers that differ, drawn without touching the generator that a run depends on.
    one = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)
    best, end = float("inf"), time.perf_counter() + SECONDS
    with torch.no_grad():
        one @ one  # the first product also loads the library
        while best == float("inf") or time.perf_counter() < end:
            _wait(device)
            begun = time.perf_counter()
            one @ one
            _wait(device)
            best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / max(best, 1e-9)


@cache
def bfloat16_speed() -> float:
    """How many times as fast as float32 this processor multiplies bfloat16.

    On one thread and in seconds of the processor, the best of several in turn, so that what else
    runs on the machine does not count: a run must choose alike each time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
        ones = {dtype: torch.ones(384, 384, dtype=dtype) for dtype in best}
        with torch.no_grad():
            for _ in range(16):
                for dtype, one in ones.items():
                    begun = time.thread_time()
                    one @ one
                    best[dtype] = min(best[dtype], time.thread_time() - begun)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / max(best[torch.bfloat16], 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
