"""A model's folder or file in, the engine that suits this machine out."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import read_json
from fledge.core.protocols import Progress, Silent
from fledge.engine.engine import SEQUENCES, Engine
from fledge.model.config import ModelConfig
from fledge.model.gguf.magic import is_gguf
from fledge.model.layout import from_huggingface
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fledge.model.decoder import Decoder

BLOCK = 16
"""Positions of a KV block."""

CACHE_BYTES = 2**30
"""What keys and values may take, unless one full context needs more.  Memory is only used as far
as sequences reach."""

_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1 + 4 / 32}
DTYPES = tuple(_BYTES)

RunnerName = Literal["auto", "native", "torch"]


def load_engine(
    path: str | Path,
    *,
    threads: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    runner: RunnerName = "auto",
    progress: Progress | None = None,
) -> Engine:
    """The engine of the checkpoint at ``path``: a run, stage or HF directory, or a GGUF file.

    ``threads`` bounds the cores that one operation uses (PyTorch: for the whole process).
    ``dtype`` is the type of the weights: "auto" is bfloat16 on a GPU that computes in it, on a
    CPU bfloat16 for a checkpoint stored so, else float32; "int8" is for the native runner.
    ``device`` "auto" takes the GPU if any.  ``runner`` "native" computes on the CPU in compiled
    code, "torch" in PyTorch; "auto" is native where a C++ compiler is at hand.  ``progress``
    hears why not.  Raises InputError when there is no model, or a broken one.
    """
    if dtype not in ("auto", *DTYPES):
        known = ", ".join(["auto", *DTYPES])
        raise InputError(f"dtype {dtype!r} is not known", remedy=f"one of {known}")
    if device == "auto":
        device = "cuda" if _has_gpu() else "cpu"
    whole = is_gguf(path)
    folder = Path(path) if whole else find_checkpoint(path)
    possible = device == "cpu" and not whole
    if runner == "native" and not possible:
        raise InputError(
            "the native runner computes folders of safetensors on the CPU",
            remedy="import the GGUF file first, or use device = 'cpu'",
        )
    if possible and runner != "torch" and _has_kernels(runner == "native", progress or Silent()):
        return _native(folder, dtype, threads)
    if dtype == "int8":
        raise InputError(
            "int8 weights need the native runner", remedy="install g++ or clang++, on a CPU"
        )
    return _torch(folder, dtype, device, threads, whole=whole)


def _has_kernels(asked: bool, progress: Progress) -> bool:
    """Whether the native kernels are there, compiled now if need be.

    Says why not; raises that when they were asked for.
    """
    from fledge.engine.native.library import load_library

    try:
        load_library()
    except FledgeError as error:
        if asked:
            raise
        progress.say(f"{error.message}: using PyTorch, which is slower")
        return False
    return True


def _native(folder: Path, dtype: str, threads: int | None) -> Engine:
    from fledge.engine.native.runner import NativeRunner
    from fledge.engine.native.tensors import open_tensors

    config = from_huggingface(read_json(folder / "config.json"), folder / "config.json")
    if dtype == "auto":
        stored = open_tensors(folder).values()
        dtype = "bfloat16" if all(t.is_bfloat16 for t in stored if len(t.shape) == 2) else "float32"
    runner = NativeRunner(
        folder,
        blocks=cache_blocks(config, 4),
        block_size=BLOCK,
        weights=dtype,  # type: ignore[arg-type]
        threads=threads,
    )
    return Engine(
        runner,
        Tokenizer.load(folder),
        config,
        name=_name(folder),
        weight_bytes=_BYTES[dtype],
        decoder=partial(_decoder, folder, dtype if dtype in DTYPES[:2] else "float32", "cpu"),
    )


def _decoder(folder: Path, dtype: str, device: str) -> Decoder:
    from fledge.model.checkpoint import load_model

    return load_model(folder, dtype=dtype, device=device)


def _torch(
    folder: Path, dtype: str, device: str, threads: int | None, *, whole: bool = False
) -> Engine:
    import torch

    from fledge.engine.torch_runner import TorchRunner

    if threads is not None:
        torch.set_num_threads(threads)
    if dtype == "auto":
        # Older GPUs only emulate bfloat16, slower than they compute in float32.
        real = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if real else "float32"
    if whole:
        from fledge.model.gguf.read import GgufFile

        file = GgufFile(folder)
        tokenizer, name = file.tokenizer(), folder.stem
        model = file.decoder(dtype, device=device)
    else:
        model = _decoder(folder, dtype, device)
        tokenizer, name = Tokenizer.load(folder), _name(folder)
    blocks = cache_blocks(model.config, model.compute_dtype.itemsize)
    runner = TorchRunner(model, blocks=blocks, block_size=BLOCK)
    return Engine(
        runner,
        tokenizer,
        model.config,
        name=name,
        weight_bytes=model.compute_dtype.itemsize,
        decoder=lambda: model,
    )


def cache_blocks(config: ModelConfig, bytes_a_number: int) -> int:
    """KV blocks: for as many full contexts as are decoded together, if ``CACHE_BYTES`` hold
    them; for one full context at least."""
    position = 2 * config.depth * config.kv_heads * config.head_size * bytes_a_number
    context = -(-config.context // BLOCK)
    return max(context, min(SEQUENCES * context, CACHE_BYTES // (position * BLOCK)))


def _has_gpu() -> bool:
    """Whether PyTorch sees a GPU; it is not even imported where the machine has none."""
    names = ("nvidia0", "nvidiactl", "dxg", "kfd")
    there = any(os.path.exists(f"/dev/{name}") for name in names)
    without = sys.platform == "linux" and not there and "torch" not in sys.modules
    if without or sys.platform == "darwin":
        return False
    import torch

    return torch.cuda.is_available()


def _name(folder: Path) -> str:
    """What to call a model: "bridges-sft" for runs/bridges/sft/model, or the folder's name."""
    folder = folder.resolve()
    if folder.name != "model":
        return folder.name
    return f"{folder.parent.parent.name}-{folder.parent.name}".strip("-")
