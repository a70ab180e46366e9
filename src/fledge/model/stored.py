"""A folder of safetensors in, its tensors out, one by one: memory-mapped, sharded or not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
}
"""Types of weights as the format names them; others are quantized or no weights."""

COPY_AGAIN = "copy the checkpoint again"


class StoredTensors:
    """The tensors of a checkpoint folder.  A context manager: the files stay open inside.

    Opening reads headers only.  Raises InputError naming the file, and the tensor where it is
    about one: a shard that is missing or cut short, an index that names what is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._handles: dict[str, Any] = {}
        self._files: dict[str, str] = {}

    def __enter__(self) -> StoredTensors:
        placed = self._placed()
        with ExitStack() as stack:
            for file in [SINGLE] if placed is None else sorted(set(placed.values())):
                self._handles[file] = stack.enter_context(_opened(self.folder / file))
                self._files |= dict.fromkeys(self._handles[file].keys(), file)
            for name, file in (placed or {}).items():
                if name not in self._handles[file].keys():  # noqa: SIM118
                    raise InputError(
                        f"{self.folder / INDEX} says that tensor {name} is in {file}, which has "
                        "no such tensor",
                        remedy=COPY_AGAIN,
                    )
            self._files |= placed or {}
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def names(self) -> list[str]:
        """All tensors, sorted."""
        return sorted(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def file(self, name: str) -> Path:
        """The file a tensor is in."""
        return self.folder / self._files[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape, from the header."""
        return tuple(self._slice(name).get_shape())

    def kind(self, name: str) -> str:
        """The type as the format names it, from the header."""
        return str(self._slice(name).get_dtype())

    def dtype(self, name: str) -> torch.dtype:
        """The type, from the header; raises InputError for what is no float."""
        kind = self.kind(name)
        if kind not in DTYPES:
            raise InputError(
                f"{self.file(name)}: tensor {name} has type {kind}, which is no weight of "
                f"{', '.join(DTYPES)}",
                remedy="use the checkpoint that is not quantized",
            )
        return DTYPES[kind]

    def read(self, name: str) -> Tensor:
        """The tensor; its pages come from the file when they are touched."""
        try:
            tensor: Tensor = self._handles[self._files[name]].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _unreadable(self.file(name), error) from None
        return tensor

    def _slice(self, name: str) -> Any:
        return self._handles[self._files[name]].get_slice(name)

    def _placed(self) -> dict[str, str] | None:
        """Tensor -> file as the index says; None without shards."""
        if (self.folder / SINGLE).is_file():
            return None
        index = self.folder / INDEX
        values = read_json(index)
        placed = values.get("weight_map") if isinstance(values, dict) else None
        if not isinstance(placed, dict) or not placed:
            raise InputError(f"{index} has no weight_map", remedy=COPY_AGAIN)
        for name, file in placed.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise InputError(
                    f"{index}: tensor {name} is in {file!r}, which is no file of the folder",
                    remedy=COPY_AGAIN,
                )
            if not (self.folder / file).is_file():
                raise InputError(
                    f"{self.folder / file} is missing, {INDEX} names it", remedy=COPY_AGAIN
                )
        return placed


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read: {error}", remedy=COPY_AGAIN)
