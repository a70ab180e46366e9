"""An objective in, the same objective as generated code out; or as it was, when that fails."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import torch

from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.objective import Objective


def has_compiler() -> bool:
    """Whether a C++ compiler is at hand, which code for CPUs needs."""
    names = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    return any(name and shutil.which(name) for name in names)


def cache_folder() -> Path:
    """Where generated code is kept between runs: below $FLEDGE_HOME or the user's cache."""
    home = os.environ.get("FLEDGE_HOME")
    if home:
        return Path(home) / "compiled"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fledge" / "compiled"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fledge" / "compiled"


def compiled(
    objective: Objective, model: Decoder, example: Batch, progress: Progress
) -> Objective | None:
    """The objective as generated code, made now for the shape of ``example``.

    None, with a line for the user, when code cannot be generated on this machine.  The weights
    and their gradients are as before.
    """
    _set_cache_folder()
    progress.say("generating code for the training step (once a model shape, 10 to 40 s) …")
    torch.compiler.reset()  # forget models trained before: there is a limit per function
    fast = torch.compile(objective, dynamic=False, fullgraph=True)
    try:
        fast(model, example).backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # the compiler's own errors share no base class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        progress.say(f"cannot generate code here ({reason[:120]}); training goes on without")
        return None
    finally:
        model.zero_grad(set_to_none=True)
    return fast


def _set_cache_folder() -> None:
    """Keep generated code where it outlives a reboot, unless the user named a folder."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    named = os.environ.get(name)
    # Importing the compiler sets the variable to a temporary folder of this name.
    if not named or Path(named).name.startswith("torchinductor_"):
        os.environ[name] = str(cache_folder())
