"""Parameters <-> the tensors of safetensors files: which type, which shape, in which place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import replacing
from fledge.model.stored import StoredTensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types that weights can have in memory and in our files."""


def check_dtype(dtype: str) -> None:
    """Raise InputError unless ``dtype`` is one of ``DTYPES``."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known", remedy=f"use one of {', '.join(DTYPES)}")


def check_size(parameters: int, stored: StoredTensors) -> None:
    """Raise InputError for a config of many more weights than are stored.

    Even a model without weights would fill the memory, or take for ever to build.  What differs by
    less is found tensor by tensor.
    """
    found = sum(prod(stored.shape(name)) for name in stored.names)
    if parameters > 1000 * found:
        raise InputError(
            f"{stored.folder}: config.json describes {parameters:,} weights, stored are {found:,}",
            remedy="mend the sizes in config.json, or copy the checkpoint again",
        )


def check_sources(model: nn.Module, stored: StoredTensors, sources: Mapping[str, str]) -> None:
    """Raise InputError unless each parameter's stored tensor (``sources``) is there and fits."""
    for name, parameter in model.named_parameters():
        source, shape = sources[name], tuple(parameter.shape)
        if source not in stored:
            raise InputError(
                f"{stored.folder}: tensor {source} is missing",
                remedy=f"config.json asks for it, of shape {shape}",
            )
        if stored.shape(source) != shape:
            raise InputError(
                f"{stored.file(source)}: tensor {source} has shape {stored.shape(source)}",
                remedy=f"config.json asks for shape {shape}",
            )
        stored.dtype(source)  # refuses what is no float


def place(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Make ``tensor`` the parameter ``name``."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Parameter(tensor))


@contextmanager
def weights_file(weights: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> Iterator[Path]:
    """Write ``weights`` beside ``path``; the file (yielded) takes its place if the block succeeds.

    Raises FledgeError when the disk does not take it: then nothing in the block happens.
    """
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in weights.items()
    }
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise FledgeError(
                f"{path.parent}: the weights cannot be written: {error}", remedy="free disk space"
            ) from None
        del tensors
        yield temporary
