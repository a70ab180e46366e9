"""An embedder's folder in, its vectors out, whichever kind it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import InputError
from fledge.model.static_encoder import StaticEncoder, is_static

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def open_embedder(folder: Path | str) -> Embed:
    """Unit vectors of texts by the embedder in ``folder``: a table, or an encoder."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder} is no folder", remedy="name an embedder's folder")
    if is_static(folder):
        return StaticEncoder.load(folder).vectors
    from fledge.model.text_encoder import TextEncoder

    return TextEncoder.load(folder).vectors
