"""The feed-forward block of a layer: activations in, activations out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.config import ModelConfig
from fledge.model.linear import Linear, fused_linear


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2 (arXiv:2109.08668)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu2": squared_relu,
}


class FeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)) (arXiv:2002.05202), or down(activation(up(x)))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        biased = config.ffn_bias
        self.gate_proj = Linear(config.width, config.ffn, biased) if config.gated else None
        self.up_proj = Linear(config.width, config.ffn, biased)
        self.down_proj = Linear(config.ffn, config.width, biased)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,D)"""
        if self.gate_proj is None:
            inner = self.activation(self.up_proj(x))
        else:
            gate, up = fused_linear(x, self.gate_proj, self.up_proj)
            inner = self.activation(gate) * up
        out: Tensor = self.down_proj(inner)
        return out
