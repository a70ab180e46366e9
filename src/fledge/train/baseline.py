"""A model that is to be trained on in; its held-out figures before that out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fledge.core.files import read_json, write_json
from fledge.model.decoder import Decoder


def baseline(
    model: Decoder, out: Path, measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """What ``measure`` finds of the untrained model, in float32.

    Kept in ``out/state``, so that a run that is resumed need not measure it again.
    """
    path = out / "state" / "before.json"
    if path.is_file():
        return dict(read_json(path))
    dtype, model.compute_dtype = model.compute_dtype, torch.float32
    try:
        figures = measure()
    finally:
        model.compute_dtype = dtype
    write_json(path, figures)
    return figures
