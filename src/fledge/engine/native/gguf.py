"""A GGUF file in, a checkpoint for the native runner out: Q8_0 is read as float32."""

from __future__ import annotations

import numpy as np
import torch

from fledge.engine.native.tensors import Stored
from fledge.engine.native.weights import Opened, check_weights
from fledge.model.gguf.read import GgufFile


def open_gguf(file: GgufFile) -> Opened:
    """The tensors under the names of the Hugging Face layout; errors as for folders."""
    stored = {}
    for name, tensor in file.tensors():
        tensor = tensor.contiguous()
        if tensor.dtype == torch.bfloat16:
            numbers = tensor.view(torch.int16).numpy().view(np.uint16)
        else:
            numbers = tensor.float().numpy()
        full = name if name.startswith("lm_head.") else f"model.{name}"
        stored[full] = Stored(file.path, tuple(tensor.shape), numbers)
    return Opened(file.config, check_weights(stored, file.config, file.path))
