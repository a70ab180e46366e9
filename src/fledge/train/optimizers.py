"""Muon for the matrices of the layers, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fledge.model.decoder import Decoder
from fledge.train.config import LoopConfig

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients (a, b, c) of the five steps (arXiv:2505.16932, algorithm 1, with its margin)."""


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: all singular values are brought near 1.

    Five odd polynomials X <- aX + (bA + cA²)X with A = XXᵀ (Polar Express, arXiv:2505.16932).
    matrices (N,rows,columns) -> (N,rows,columns) in ``dtype``, the type the products use.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).float()
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)).to(dtype)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Momentum, orthogonalised per matrix (kellerjordan.github.io/posts/muon).

    Update: W <- W (1 - lr·decay) - lr · sqrt(max(1, rows/columns)) · polar(momentum), Nesterov.
    Matrices of one shape are treated as one stack.  Momentum is float32.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            stacks: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks.setdefault(parameter.shape, []).append(parameter)
            for stack in stacks.values():
                self._update(stack, group)

    def _update(self, stack: list[Tensor], group: dict[str, Any]) -> None:
        momenta = [
            self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            for parameter in stack
        ]
        gradients = [parameter.grad for parameter in stack if parameter.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonalize(torch.stack(list(ahead)), self.dtype).float()
        rows, columns = stack[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(stack, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(stack, list(updates.unbind()), alpha=-group["lr"] * scale)


def build_optimizers(
    model: Decoder, config: LoopConfig, *, matrix_rate: float, other_rate: float
) -> list[Optimizer]:
    """The optimizers of all weights; each group keeps its peak rate under "peak".

    Matrices of the layers follow ``config.optimizer``; embeddings, output matrix and norms
    always AdamW without decay (what Muon cannot treat, and what should not shrink).
    """
    inner = [p for name, p in model.named_parameters() if _is_matrix(name, p)]
    other = [p for name, p in model.named_parameters() if not _is_matrix(name, p)]
    betas = (0.9, 0.95)
    optimizers: list[Optimizer] = []
    if config.optimizer == "muon":
        dtype, decay = model.compute_dtype, config.weight_decay
        optimizers.append(Muon(inner, lr=matrix_rate, weight_decay=decay, dtype=dtype))
        groups = [{"params": other, "lr": other_rate, "weight_decay": 0.0}]
    else:
        groups = [
            {"params": inner, "lr": matrix_rate, "weight_decay": config.weight_decay},
            {"params": other, "lr": other_rate, "weight_decay": 0.0},
        ]
    optimizers.append(AdamW(groups, betas=betas, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def peak_rates(
    config: LoopConfig, table: dict[str, tuple[float, float]], width: int
) -> tuple[float, float]:
    """Peak rates of the layers' matrices and of the rest: as configured, or from ``table``.

    Rates of AdamW shrink as 1/sqrt(width / 256); Muon's suit any width.
    """
    matrix, other = table[config.optimizer]
    shrink = (256 / width) ** 0.5
    if config.optimizer == "adamw":
        matrix *= shrink
    return config.learning_rate or matrix, config.embedding_learning_rate or other * shrink


def set_rate(optimizers: list[Optimizer], factor: float) -> None:
    """Every group's rate becomes ``factor`` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("layers.") and parameter.ndim == 2
