"""A model's folder or file in, the engine that suits this machine out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Progress, Silent
from fledge.engine.drafting import shallow
from fledge.engine.engine import SEQUENCES, Engine
from fledge.model.config import ModelConfig
from fledge.model.gguf.magic import is_gguf
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fledge.engine.native.weights import Opened
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
    draft: str | Path | None = None,
    progress: Progress | None = None,
) -> Engine:
    """The engine of the checkpoint at ``path``: a run, stage or HF directory, or a GGUF file.

    ``threads`` bounds the cores that one operation uses (PyTorch: for the whole process).
    ``dtype`` is the type of the weights: "auto" is bfloat16 on a GPU that computes in it, on a
    CPU bfloat16 for a checkpoint stored so, else float32; "int8" is for the native runner.
    ``device`` "auto" takes the GPU if any.  ``runner`` "native" computes on the CPU in compiled
    code, "torch" in PyTorch; "auto" is native where a C++ compiler is at hand.  ``draft`` is a
    smaller model of the same tokenizer, or "self": this one without some layers (native only).
    ``progress`` hears why not.  Raises InputError when there is no model, or a broken one.
    """
    if dtype not in ("auto", *DTYPES):
        known = ", ".join(["auto", *DTYPES])
        raise InputError(f"dtype {dtype!r} is not known", remedy=f"one of {known}")
    if device == "auto":
        device = "cuda" if _has_gpu() else "cpu"
    native = device == "cpu" and runner != "torch"
    if runner == "native" and not native:
        raise InputError("the native runner computes on the CPU", remedy="use device = 'cpu'")
    native = native and _has_kernels(runner == "native", progress or Silent())
    if dtype == "int8" and not native:
        raise InputError(
            "int8 weights need the native runner", remedy="install g++ or clang++, on a CPU"
        )
    source = _gguf(Path(path)) if is_gguf(path) else _folder(find_checkpoint(path))
    if native:
        return _native(source, dtype, threads, draft)
    if draft == "self":
        raise InputError(
            "layers are skipped by the native runner only", remedy="name a draft model instead"
        )
    other = None if draft is None else load_engine(draft, device=device, runner=runner)
    return _torch(source, dtype, device, threads, other)


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


@dataclass(frozen=True)
class _Source:
    """A model on disk, not read yet."""

    name: str
    tokenizer: Callable[[], Tokenizer]
    opened: Callable[[], Opened]
    """For the native runner."""
    decoder: Callable[[str, str], Decoder]
    """For PyTorch: (dtype, device) -> model."""


def _folder(folder: Path) -> _Source:
    def decoder(dtype: str, device: str) -> Decoder:
        from fledge.model.checkpoint import load_model

        return load_model(folder, dtype=dtype, device=device)

    def opened() -> Opened:
        from fledge.engine.native.weights import open_checkpoint

        return open_checkpoint(folder)

    return _Source(_name(folder), lambda: Tokenizer.load(folder), opened, decoder)


def _gguf(path: Path) -> _Source:
    from fledge.model.gguf.read import GgufFile

    file = GgufFile(path)

    def opened() -> Opened:
        from fledge.engine.native.gguf import open_gguf

        return open_gguf(file)

    return _Source(
        path.stem, file.tokenizer, opened, lambda dtype, device: file.decoder(dtype, device=device)
    )


def _native(
    source: _Source, dtype: str, threads: int | None, draft: str | Path | None = None
) -> Engine:
    from fledge.engine.native.runner import NativeRunner

    opened = source.opened()
    # PyTorch would round activations, too: only where bfloat16 was asked for.
    plain = "bfloat16" if dtype == "bfloat16" else "float32"
    other = None
    if draft == "self":
        named = replace(source, name=f"{source.name} without layers")
        small = shallow(opened)
        other = _native(replace(named, opened=lambda: small), dtype, threads)
    elif draft is not None:
        other = load_engine(draft, threads=threads, runner="native")
    if dtype == "auto":
        matrices = [one for one in opened.stored.values() if len(one.shape) == 2]
        dtype = "bfloat16" if all(one.is_bfloat16 for one in matrices) else "float32"
    runner = NativeRunner(
        opened,
        blocks=cache_blocks(opened.config, 4),
        block_size=BLOCK,
        weights=dtype,  # type: ignore[arg-type]
        threads=threads,
    )
    return Engine(
        runner,
        source.tokenizer(),
        opened.config,
        name=source.name,
        weight_bytes=_BYTES[dtype],
        decoder=lambda: source.decoder(plain, "cpu"),
        draft=other,
    )


def _torch(
    source: _Source, dtype: str, device: str, threads: int | None, draft: Engine | None
) -> Engine:
    import torch

    from fledge.engine.torch_runner import TorchRunner

    if threads is not None:
        torch.set_num_threads(threads)
    if dtype == "auto":
        # Older GPUs only emulate bfloat16, slower than they compute in float32.
        real = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if real else "float32"
    model = source.decoder(dtype, device)
    blocks = cache_blocks(model.config, model.compute_dtype.itemsize)
    return Engine(
        TorchRunner(model, blocks=blocks, block_size=BLOCK),
        source.tokenizer(),
        model.config,
        name=source.name,
        weight_bytes=model.compute_dtype.itemsize,
        decoder=lambda: model,
        draft=draft,
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
