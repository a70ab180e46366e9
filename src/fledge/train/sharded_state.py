"""A training state of several processes: a nest of values in, a folder out, and back.

Spread tensors go to torch's distributed checkpoint (``.metadata``, ``__<rank>_0.distcp``), each
process writing its slices; all else, and where each tensor belongs, goes to ``rest.pt``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

Key = tuple[str | int, ...]
"""The way to a value through the nest: keys of dictionaries, places in lists."""

Layout = Callable[[Key, torch.Size], Tensor | None]
"""(key, size) -> a tensor that is spread as the value shall be; None: whole on every process."""

_PLACE = "tensor elsewhere"
"""Marks, in ``rest.pt``, the place of a spread tensor: (mark, its name, size, type)."""


def whole(key: Key, size: torch.Size) -> Tensor | None:
    """The layout of a process by itself."""
    return None


def layout_of(model: nn.Module, optimizers: Iterable[Optimizer]) -> Layout:
    """Weights, and optimizer states of the size of a weight, lie as that weight does."""
    weights: dict[Key, Tensor] = {("model", name): p for name, p in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for place, parameter in enumerate(parameters):
            weights["optimizers", number, "state", place] = parameter

    def layout(key: Key, size: torch.Size) -> Tensor | None:
        like = weights.get(key) if key[0] == "model" else weights.get(key[:4])
        return like if isinstance(like, DTensor) and like.shape == size else None

    return layout


def write_state(folder: Path, state: dict[str, Any], is_main: bool) -> BaseException | None:
    """Write ``state`` into the new ``folder``; every process calls it.  Returns what went wrong."""
    tensors: dict[str, DTensor] = {}
    rest = _map(state, (), lambda key, value: _put_aside(key, value, tensors))

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if is_main:
            torch.save(rest, folder / "rest.pt")

    problem = written(write)
    # Even after a problem: the other processes are in there, waiting for this one.
    return (
        written(lambda: dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder))) or problem
    )


def written(write: Callable[[], Any]) -> BaseException | None:
    """What went wrong in ``write``, as its first cause."""
    try:
        write()
    except CheckpointException as error:  # no Exception by its maker's choice
        causes = [cause for cause, _ in error.failures.values()]
        return causes[0] if causes else error
    except (OSError, RuntimeError) as error:
        return error
    return None


def read_state(path: Path, layout: Layout) -> dict[str, Any]:
    """The state in a file or folder; every tensor is spread, or whole, as ``layout`` says."""
    if path.suffix == ".pt":
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(_map(state, (), lambda key, value: _spread(key, value, layout)))
    rest = torch.load(path / "rest.pt", map_location="cpu", weights_only=True)
    tensors: dict[str, Tensor] = {}
    state = _map(rest, (), lambda key, value: _make_room(key, value, layout, tensors))
    _fill(tensors, dcp.FileSystemReader(path))
    return dict(state)


def _fill(tensors: dict[str, Tensor], reader: dcp.FileSystemReader) -> None:
    """Read each tensor, or this process's slice of it; no process waits for another."""
    reader.read_metadata()  # if this fails, it fails here, without a tale of fallbacks
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        try:
            dcp.load(tensors, storage_reader=reader, no_dist=True)
        except CheckpointException as error:
            raise RuntimeError(str(error)) from None


def _put_aside(key: Key, value: Any, tensors: dict[str, DTensor]) -> Any:
    if not isinstance(value, DTensor):
        return value
    name = ".".join(map(str, key))
    tensors[name] = value
    return (_PLACE, name, tuple(value.shape), value.dtype)


def _make_room(key: Key, value: Any, layout: Layout, tensors: dict[str, Tensor]) -> Any:
    """An empty tensor in the place of a mark, to be filled from the folder."""
    if not (isinstance(value, tuple) and value and value[0] == _PLACE):
        return value
    _, name, shape, dtype = value
    like = layout(key, torch.Size(shape))
    if like is None:
        tensors[name] = torch.empty(shape, dtype=dtype)
    else:
        tensors[name] = torch.empty_like(like, dtype=dtype, requires_grad=False)
    return tensors[name]


def _spread(key: Key, value: Any, layout: Layout) -> Any:
    """This process's slices of a tensor that every process has read whole."""
    like = layout(key, value.shape) if isinstance(value, Tensor) else None
    if not isinstance(like, DTensor):
        return value
    here = value.to(like.device)
    return distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None)


def _map(value: Any, key: Key, change: Callable[[Key, Any], Any]) -> Any:
    """The nest with every leaf changed; leaves are what is neither dictionary nor list."""
    if isinstance(value, dict):
        return {name: _map(inner, (*key, name), change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_map(inner, (*key, place), change) for place, inner in enumerate(value)]
    return change(key, value)
