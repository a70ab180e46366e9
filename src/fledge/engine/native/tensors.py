"""A folder of safetensors in, its tensors out as NumPy arrays, memory-mapped.  No torch.

The format: eight bytes with the length of a JSON header, the header, the numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import InputError
from fledge.core.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
COPY_AGAIN = "copy the checkpoint again"

TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
"""As the format names them; bfloat16, which NumPy does not have, as its bits."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in a file; its pages are read when they are touched."""

    file: Path
    shape: tuple[int, ...]
    numbers: NDArray[Any]
    """float32, or the bits of bfloat16 in uint16."""

    @property
    def is_bfloat16(self) -> bool:
        """Whether ``numbers`` are bits."""
        return self.numbers.dtype == np.uint16

    def floats(self) -> NDArray[np.float32]:
        """float32 in any case: bfloat16 is its upper half."""
        if not self.is_bfloat16:
            return self.numbers
        return (self.numbers.astype(np.uint32) << 16).view(np.float32)


def open_tensors(folder: Path, ignored: tuple[str, ...] = ()) -> dict[str, Stored]:
    """All tensors of a checkpoint; raises InputError naming what is missing, cut or no float.

    ``ignored``: endings of names that are left out.
    """
    if (folder / SINGLE).is_file():
        return read_tensors(folder / SINGLE, ignored)
    index = read_json(folder / INDEX)
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise InputError(f"{folder / INDEX} has no weight_map", remedy=COPY_AGAIN)
    files = {file: file for file in placed.values()}
    if any(not isinstance(file, str) or Path(file).name != file for file in files):
        raise InputError(f"{folder / INDEX} names no files of the folder", remedy=COPY_AGAIN)
    tensors: dict[str, Stored] = {}
    for file in sorted(files):
        tensors |= read_tensors(folder / file, ignored)
    absent = sorted(n for n in placed.keys() - tensors.keys() if not n.endswith(ignored))
    if absent:
        raise InputError(f"{folder}: tensor {absent[0]} is in no file", remedy=COPY_AGAIN)
    return tensors


def read_tensors(path: Path, ignored: tuple[str, ...] = ()) -> dict[str, Stored]:
    """All tensors of one file; errors as in ``open_tensors``."""
    try:
        data = np.memmap(path, np.uint8, mode="r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes()) if start <= data.size else None
        if not isinstance(header, dict):
            raise ValueError("the file is cut short")
        header.pop("__metadata__", None)
        return {
            name: _tensor(path, data[start:], name, entry)
            for name, entry in header.items()
            if not name.endswith(ignored)
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}", remedy=COPY_AGAIN) from None


def _tensor(path: Path, data: NDArray[np.uint8], name: str, entry: dict[str, Any]) -> Stored:
    if entry["dtype"] not in TYPES:
        raise InputError(
            f"{path}: tensor {name} has type {entry['dtype']}, which is no weight of "
            f"{', '.join(TYPES)}",
            remedy="use the checkpoint that is not quantized",
        )
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= data.size:
        raise ValueError("the file is cut short")
    shape = tuple(entry["shape"])
    numbers = data[begin:end].view(TYPES[entry["dtype"]]).reshape(shape)
    if entry["dtype"] in ("F16", "F64"):
        numbers = numbers.astype(np.float32)
    return Stored(path, shape, np.require(numbers, requirements=["C", "A"]))
