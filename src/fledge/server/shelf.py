"""The models that one server offers: the one it was started with, and LoRA adapters of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fledge.client.local import LocalModel
from fledge.core.errors import InputError
from fledge.core.protocols import ChatModel
from fledge.server.errors import ApiError


class Shelf:
    """Models by name.  Adapters may come and go while answers are written."""

    def __init__(self, model: ChatModel, folder: Path | None = None) -> None:
        """``folder`` holds the adapters that clients may load; None: they may load none."""
        self._model = model
        self._folder = None if folder is None else folder.resolve()
        started = int(time.time())
        self._since = {model.name: started} | dict.fromkeys(self._adapters, started)

    @property
    def main(self) -> ChatModel:
        """The model itself."""
        return self._model

    @property
    def _adapters(self) -> tuple[str, ...]:
        return self._model.engine.adapters.names if isinstance(self._model, LocalModel) else ()

    @property
    def names(self) -> list[str]:
        """What requests may ask for."""
        return [self._model.name, *self._adapters]

    def get(self, name: str, client: str = "") -> ChatModel:
        """The model of this name for one client; raises ApiError 404 where there is none."""
        if name not in self.names:
            known = ", ".join(map(repr, self.names))
            raise ApiError(
                404,
                f"there is no model {name!r}; this server has {known}",
                param="model",
                code="model_not_found",
            )
        if not isinstance(self._model, LocalModel):
            return self._model
        adapter = "" if name == self._model.name else name
        return LocalModel(self._model.engine, adapter=adapter, client=client)

    def card(self, name: str) -> dict[str, Any]:
        """A model as ``/v1/models`` lists it; an adapter names the model it changes."""
        self.get(name)
        card = {"id": name, "object": "model", "created": self._since[name], "owned_by": "fledge"}
        return card if name == self._model.name else {**card, "parent": self._model.name}

    def load(self, name: str, path: str) -> None:
        """Load the adapter at ``path`` below the folder; raises ApiError where it may not be."""
        if self._folder is None or not isinstance(self._model, LocalModel):
            raise ApiError(
                403,
                "this server loads no adapters: start it with --adapter-folder",
                code="adapters_off",
            )
        if name == self._model.name:
            raise ApiError(400, f"{name!r} is the model itself", param="lora_name")
        place = (self._folder / path).resolve()
        if not place.is_relative_to(self._folder) or not place.is_dir():
            raise ApiError(404, f"there is no adapter {path!r}", param="lora_path")
        try:
            self._model.engine.adapters.load(name, place)
        except InputError as error:
            raise ApiError(400, error.message, param="lora_path") from error
        self._since[name] = int(time.time())

    def unload(self, name: str) -> None:
        """Forget an adapter; answers under way are finished with it."""
        if self._folder is None or not isinstance(self._model, LocalModel):
            raise ApiError(
                403,
                "this server unloads no adapters: start it with --adapter-folder",
                code="adapters_off",
            )
        if name not in self._adapters:
            raise ApiError(404, f"there is no adapter {name!r}", param="lora_name")
        self._model.engine.adapters.unload(name)
