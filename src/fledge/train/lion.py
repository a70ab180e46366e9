"""Lion: the sign of an interpolated momentum is the step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Lion(Optimizer):
    """Evolved sign momentum (arXiv:2302.06675, algorithm 2).

    Update: W <- W (1 - lr·decay) - lr · sign(b1·m + (1 - b1)·g), then m <- b2·m + (1 - b2)·g.
    One state a weight, half of AdamW's.  Every weight moves by lr, so rates are 3 to 10 times
    smaller than AdamW's and decays as many times larger (section 5).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum"] for weight in weights]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            now, later = group["betas"]
            steps = list(torch._foreach_lerp(momenta, gradients, 1 - now))
            torch._foreach_sign_(steps)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, steps, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - later)
