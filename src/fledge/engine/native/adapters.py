"""A PEFT folder in, its small matrices beside those of the kernels out.  No torch."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import read_json
from fledge.engine.native.tensors import Stored, read_tensors
from fledge.engine.native.weights import HEAD, Opened, Place, places
from fledge.model.peft_layout import CONFIG_FILE, PARTS, PREFIX, WEIGHTS_FILE, read_peft_config

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """y = stretch (W x + B A x) for the matrix W at ``place``."""

    place: Place
    a: Floats
    """(rank, inputs)"""
    b: Floats
    """(outputs, rank), the scale in it."""
    stretch: Floats | None
    """(outputs): what DoRA brings each output to its length by."""


def read_adapter(folder: Path, base: Opened) -> list[Change]:
    """What the adapter in ``folder`` changes of ``base``.

    Raises InputError when it belongs to another model, or is more than LoRA.
    """
    path = folder / WEIGHTS_FILE
    stored = read_tensors(path)
    known = _linears(base)
    layers: dict[str, dict[str, Stored]] = {}
    for key, tensor in stored.items():
        layer, part = _parsed(key)
        if layer not in known or not part:
            raise InputError(
                f"{path}: {key} has no place in the model",
                remedy="the adapter belongs to another model, or is more than LoRA",
            )
        layers.setdefault(layer, {})[part] = tensor
    if not layers:
        raise InputError(f"{path} holds no tensor", remedy="copy it again")
    settings = folder / CONFIG_FILE
    config = read_peft_config(read_json(settings), settings, list(layers))
    wanted = {"lora_A", "lora_B"} | ({"magnitude"} if config.dora else set())
    changes = []
    for layer, parts in layers.items():
        place = known[layer]
        _check(parts, wanted, place, config.rank, f"{path}: {layer}")
        a, b = parts["lora_A"].floats(), parts["lora_B"].floats() * np.float32(config.scale)
        stretch = None
        if config.dora:
            stretch = _stretch(base.stored[place.name].floats(), a, b, parts["magnitude"].floats())
        changes.append(Change(place, _dense(a), _dense(b), stretch))
    return changes


def add_adapter(library: ctypes.CDLL, model: int, changes: list[Change]) -> int:
    """Give the kernels the matrices; the adapter's number.  Raises FledgeError without memory."""
    number: int = library.fledge_adapter_open(model)
    failed = number < 0
    for change in changes:
        failed = failed or library.fledge_adapter_set(
            model,
            number,
            change.place.role,
            change.place.layer,
            change.a.ctypes.data,
            change.b.ctypes.data,
            None if change.stretch is None else change.stretch.ctypes.data,
            *change.a.shape[:1],
            *change.place.shape,
        )
    if failed:
        if number >= 0:
            library.fledge_adapter_close(model, number)
        raise FledgeError("memory is full: the adapter does not fit", remedy="unload others")
    return number


def _linears(base: Opened) -> Mapping[str, Place]:
    """The layers that LoRA can adapt, by their name in the Hugging Face model."""
    untied = {HEAD} if not base.config.tied else set()
    return {
        place.name.removesuffix(".weight"): place
        for place in places(base.config)
        if place.name.endswith("_proj.weight") or place.name in untied
    }


def _parsed(key: str) -> tuple[str, str]:
    """(layer, our name of the part) of a tensor's name; empty where it is none of ours."""
    inner = key.removeprefix(PREFIX) if key.startswith(PREFIX) else ""
    for part, end in PARTS.items():
        if inner.endswith(f".{end}"):
            return inner.removesuffix(f".{end}"), part
    return inner, ""


def _check(
    parts: Mapping[str, Stored], wanted: set[str], place: Place, rank: int, where: str
) -> None:
    outputs, inputs = place.shape
    shapes = {"lora_A": (rank, inputs), "lora_B": (outputs, rank), "magnitude": (outputs,)}
    for part in PARTS:
        found = parts[part].shape if part in parts else None
        asked = shapes[part] if part in wanted else None
        if found != asked:
            said = "is missing" if found is None else f"has shape {found}"
            raise InputError(f"{where}.{PARTS[part]} {said}", remedy=f"the model asks for {asked}")


def _stretch(weight: Floats, a: Floats, b: Floats, magnitude: Floats) -> Floats:
    """magnitude / |W + B A| for each output (arXiv:2402.09353, eq. 5): (outputs,)"""
    lengths = np.linalg.norm(weight + b @ a, axis=1)
    return _dense(magnitude / np.maximum(lengths, np.finfo(np.float32).tiny))


def _dense(numbers: Floats) -> Floats:
    return np.ascontiguousarray(numbers, np.float32)
