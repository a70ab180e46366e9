"""What to train on: the device, its fastest exact-enough number type, its threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fledge.core.errors import InputError
from fledge.core.run import usable_cores
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.allocator import keep_freed_memory
from fledge.train.config import LoopConfig
from fledge.train.peak import bfloat16_speed
from fledge.train.world import World

MICRO_BYTES = {"cpu": 8192, "cuda": 131_072}
"""Bytes of one number for each token of a micro-batch, when none is asked for: 4,096 tokens in
bfloat16 and 2,048 in float32 on a CPU, where more only costs memory; 16 times that on a GPU."""


def choose_device(config: LoopConfig) -> torch.device:
    """The device to train on; raises InputError when a GPU is asked for and absent."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            'device = "cuda", but this PyTorch sees no GPU',
            remedy='install PyTorch with CUDA, or set device = "auto"',
        )
    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def choose_precision(
    config: LoopConfig, device: torch.device, world: World | None = None
) -> torch.dtype:
    """bfloat16 where its products are native and no slower than float32's, else float32.

    The processes of ``world`` agree: one that is slow in bfloat16 decides for all.  With 8-bit
    floats, what else is computed is bfloat16.  Raises InputError where the device lacks them.
    """
    if config.precision == "fp8" and not has_float8(device):
        raise InputError(
            f'precision = "fp8", but this {device.type} has no products in 8-bit floats',
            remedy='use precision = "auto", or an NVIDIA GPU from Ada or Hopper on',
        )
    if config.precision != "auto":
        return torch.float32 if config.precision == "fp32" else torch.bfloat16
    if device.type == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        pays = cpu_has_bfloat16() and bfloat16_pays()
    slow = not pays if world is None else world.any(not pays)
    return torch.float32 if slow else torch.bfloat16


def bfloat16_pays() -> bool:
    """Whether products in bfloat16 reach the rate of float32's, measured once a process.

    A processor may have the instructions and be slow at them: AVX512-BF16 runs at half the rate
    of float32 on Intel's servers when their AMX is hidden, at 2.4 times that rate on AMD's Zen 4.
    At equal rates bfloat16 wins, since it moves half the bytes; so nothing close is decided.
    """
    return bfloat16_speed() > 0.8


def set_arithmetic(
    model: Decoder, config: LoopConfig, device: torch.device, world: World | None = None
) -> None:
    """Let the model compute in the number type that ``choose_precision`` says."""
    model.compute_dtype = choose_precision(config, device, world)
    if config.precision == "fp8":
        model.use_float8()


def has_float8(device: torch.device) -> bool:
    """Whether the device multiplies 8-bit floats: NVIDIA's from Ada and Hopper on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16: AVX512-BF16 or AMX."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def choose_micro_tokens(
    config: LoopConfig, context: int, device: torch.device, dtype: torch.dtype
) -> int:
    """Tokens of a micro-batch: of ``micro_rows`` rows of ``context``, or what fits the device."""
    if config.micro_rows:
        return config.micro_rows * context
    return max(context, MICRO_BYTES[device.type] // dtype.itemsize)


def choose_micro_rows(
    config: LoopConfig, context: int, device: torch.device, dtype: torch.dtype
) -> int:
    """Rows of a micro-batch: the largest divisor of the batch that fits the device."""
    if config.micro_rows:
        return config.micro_rows
    fitting = max(1, MICRO_BYTES[device.type] // dtype.itemsize // context)
    rows = range(1, config.batch_rows + 1)
    return max(n for n in rows if config.batch_rows % n == 0 and n <= max(fitting, 1))


def worth_compiling(
    model: ModelConfig, tokens: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether a run of ``tokens`` is long enough, as an estimate from its operations alone.

    Compiling costs 10 to 30 s and saves about a third; so from a minute on.  Nothing is measured
    here, so that a run decides alike each time.
    """
    if device.type == "cuda":
        return True
    per_core = 120e9 if dtype == torch.bfloat16 else 50e9  # FLOP/s, eager, AVX-512
    return tokens * model.training_flops_per_token / (per_core * usable_cores()) >= 60.0


def _processes_here() -> int:
    """Processes of this run on this machine, as torchrun says: they share its cores."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return int(text) if text.isdecimal() and int(text) else 1


@contextmanager
def arithmetic(config: LoopConfig, device: torch.device) -> Iterator[None]:
    """Threads as configured and, on CPU, sums in one order only; as before afterwards."""
    threads = torch.get_num_threads()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads or max(1, usable_cores() // _processes_here()))
    if device.type == "cpu":
        keep_freed_memory()
        # Compiled code would else add up embedding gradients in the order threads come along.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
