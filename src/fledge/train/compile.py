"""An objective in, the same objective as generated code out; or as it was, when that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from fledge.core.compiler import compiled_folder, find_compiler
from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.objective import Objective
from fledge.train.parallel import gathered, is_spread


def has_compiler() -> bool:
    """Whether a C++ compiler is at hand, which code for CPUs needs."""
    return find_compiler() is not None


def compiled(
    objective: Objective, model: Decoder, example: Batch, progress: Progress
) -> Objective | None:
    """The objective as generated code, made now for the shape of ``example``.

    None, with a line for the user, when code cannot be generated on this machine.  The weights
    and their gradients are as before.  Of a model that is spread over processes the layers become
    generated code, in place: what gathers their weights stands between them.
    """
    _set_cache_folder()
    _set_compiler()
    progress.say("generating code for the training step (once a model shape, 10 to 40 s) …")
    sparse = example.ids.device.type == "cuda"
    return _generated(objective, model, example, progress, sparse=sparse)


def _generated(
    objective: Objective, model: Decoder, example: Batch, progress: Progress, *, sparse: bool
) -> Objective | None:
    """As ``compiled``; ``sparse``: with FlexAttention, or without where that fails."""
    torch.compiler.reset()  # forget models trained before: there is a limit per function
    plain = [layer.forward for layer in model.layers]
    fast = objective
    if is_spread(model):
        for layer in model.layers:
            layer.forward = torch.compile(layer.forward, dynamic=False, fullgraph=True)
    else:
        fast = torch.compile(objective, dynamic=False, fullgraph=True)
    if sparse:
        fast = _sparsely(fast)
    try:
        gathered(model, fast, model, example).backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # the compiler's own errors share no base class
        for layer, forward in zip(model.layers, plain, strict=True):
            layer.forward = forward
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if sparse:
            progress.say(f"FlexAttention failed here ({reason[:120]}); trying without")
            return _generated(objective, model, example, progress, sparse=False)
        progress.say(f"cannot generate code here ({reason[:120]}); training goes on without")
        return None
    finally:
        model.zero_grad(set_to_none=True)
    return fast


def _sparsely(objective: Objective) -> Objective:
    """The objective, its attention by FlexAttention; what else uses the model goes on as before."""

    def run(model: Decoder, batch: Batch) -> Tensor:
        model.sparse = True
        try:
            return objective(model, batch)
        finally:
            model.sparse = False

    return run


def _set_compiler() -> None:
    """Name the compiler there is where it is not the one that PyTorch would look for."""
    found = find_compiler()
    default = "clang++" if sys.platform == "darwin" else "g++"
    if found and found != os.environ.get("CXX", default):
        os.environ["CXX"] = found
        if "torch._inductor.config" in sys.modules:  # has read the variable already
            sys.modules["torch._inductor.config"].cpp.cxx = (None, found)


def _set_cache_folder() -> None:
    """Keep generated code where it outlives a reboot, unless the user named a folder."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    named = os.environ.get(name)
    # Importing the compiler sets the variable to a temporary folder of this name.
    if not named or Path(named).name.startswith("torchinductor_"):
        os.environ[name] = str(compiled_folder())
