"""Adapters named on a command line in, loaded into the model's engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fledge.client.local import LocalModel
from fledge.core.errors import InputError
from fledge.core.protocols import ChatModel


def adapted(model: ChatModel, folder: str | None) -> ChatModel:
    """The model with the adapter in ``folder``, if one is given."""
    if folder is None:
        return model
    name = Path(folder).resolve().name
    load_adapters(model, [f"{name}={folder}"])
    assert isinstance(model, LocalModel)
    return LocalModel(model.engine, adapter=name)


def load_adapters(model: ChatModel, given: Sequence[str]) -> None:
    """Load each NAME=DIR; raises InputError naming what is wrong."""
    for one in given:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise InputError(f"--adapter {one}: not NAME=DIR", remedy="write --adapter style=DIR")
        if not isinstance(model, LocalModel):
            raise InputError(
                f"--adapter {one}: {model.name} is computed elsewhere",
                remedy="load it there, or name a model on disk",
            )
        if name == model.name:
            raise InputError(
                f"--adapter {one}: the model itself is called so", remedy="give another name"
            )
        model.engine.adapters.load(name, folder)
