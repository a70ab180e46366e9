"""Linear layers: activations in, products out.

Weights stay in the type they are stored in (float32 while training) and are cast where they
multiply, to the type of the activations: that is mixed precision without autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.float8 import float8_linear


class Linear(nn.Module):
    """A matrix ``weight`` (outputs, inputs), and a ``bias`` (outputs,) or None.

    Computes in the type of its input, or with ``float8`` in 8-bit floats.
    """

    bias: nn.Parameter | None
    float8 = False

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.float8:
            return float8_linear(x, self.weight, bias)
        return F.linear(x, self.weight.to(x.dtype), bias)


def fused_linear(x: Tensor, *parts: nn.Module) -> tuple[Tensor, ...]:
    """Several projections of one input as one product: (..., D) -> (..., outputs) for each.

    Layers that took the place of a ``Linear`` (LoRA, quantized) multiply one by one.
    """
    plain = [part for part in parts if type(part) is Linear]
    if len(plain) < len(parts) or len({part.bias is None for part in plain}) > 1:
        return tuple(part(x) for part in parts)
    weight = torch.cat([part.weight.to(x.dtype) for part in plain])
    biases = [part.bias.to(x.dtype) for part in plain if part.bias is not None]
    product = float8_linear if plain[0].float8 else F.linear
    fused = product(x, weight, torch.cat(biases) if biases else None)
    return torch.split(fused, [part.weight.shape[0] for part in plain], dim=-1)
