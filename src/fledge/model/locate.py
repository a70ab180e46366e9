"""Where a checkpoint is: a Hugging Face, stage or run directory in, the HF directory out."""

from __future__ import annotations

from pathlib import Path

from fledge.core.errors import InputError
from fledge.core.run import is_current

RUNGS = ("pretrain", "sft", "honesty", "dpo", "grpo", "ppo")
"""The stages that leave a model, in the order they climb."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def find_checkpoint(path: Path | str) -> Path:
    """The folder with ``config.json`` and the weights that ``path`` means.

    ``path`` is that folder itself, a stage directory (``<stage>/model``) or a run directory (its
    highest finished rung; one made from a rung that has changed since does not count).  Raises
    InputError saying what is missing.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"model {path} does not exist", remedy="check the path")
    if not path.is_dir():
        way = f"fledge import {path} --out DIR, then name DIR"
        remedy = way if path.suffix == ".gguf" else "name a Hugging Face, stage or run directory"
        raise InputError(f"model {path} is a file", remedy=remedy)
    rungs = [rung for rung in reversed(RUNGS) if is_current(path, rung)]
    for folder in (path, path / "model", *(path / rung / "model" for rung in rungs)):
        if (folder / "config.json").is_file():
            if not holds_model(folder):
                pickled = any(folder.glob("pytorch_model*.bin"))
                raise InputError(
                    f"{folder} has a config.json but no model.safetensors",
                    remedy="pytorch_model.bin can run code when it is opened: convert it to "
                    "safetensors"
                    if pickled
                    else "the copy is incomplete: copy the whole folder again",
                )
            return folder
    raise InputError(f"no model in {path}", remedy=_advice(path))


def holds_model(folder: Path) -> bool:
    """Whether ``folder`` itself has ``config.json`` and weights: many others have the first."""
    names = [path.name for path in folder.iterdir()]
    return "config.json" in names and not set(WEIGHTS).isdisjoint(names)


def _advice(path: Path) -> str:
    unfinished = [rung for rung in RUNGS if (path / f"{rung}.partial").is_dir()]
    if unfinished:
        return f"its stage {unfinished[-1]} is not finished: run the recipe again to go on"
    return f"expected config.json there, in model/ or in one of {', '.join(RUNGS)}"
