"""Linear layers: activations in, products out.

Weights stay in the type they are stored in (float32 while training) and are cast where they
multiply, to the type of the activations: that is mixed precision without autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """A matrix ``weight`` (outputs, inputs), and a ``bias`` (outputs,) or None.

    Computes in the type of its input.
    """

    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        bias = None if self.bias is None else self.bias.to(x.dtype)
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
    fused = F.linear(x, weight, torch.cat(biases) if biases else None)
    return torch.split(fused, [part.weight.shape[0] for part in plain], dim=-1)
