"""Muon: gradients of matrices in, orthogonal steps out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer

from fledge.train.exchange import on_whole_matrices

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


def orthogonal_steps(matrices: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Each of the matrices, all of one shape, made orthogonal; spread ones stay spread."""
    if isinstance(matrices[0], DTensor):
        return on_whole_matrices(matrices, lambda stack: orthogonalize(stack, dtype).float())
    return list(orthogonalize(torch.stack(matrices), dtype).float().unbind())


class Muon(Optimizer):
    """Momentum, orthogonalised per matrix (kellerjordan.github.io/posts/muon), evened by neuron.

    Update: W <- W (1 - lr·decay) - lr · sqrt(max(1, rows/columns)) · even(polar(momentum)),
    Nesterov.  The factor makes the step's spectral norm what the spectral condition asks for
    (arXiv:2310.17813), so one rate suits all widths.  ``even`` divides by the root of a running
    mean of squares and restores the norm, so that no neuron learns faster than others (NorMuon,
    arXiv:2510.05491, algorithm 1); neurons are the longer side, where the steps are not of one
    size by themselves.  States: "momentum" like the weight, "second" (rows,1) or (1,columns),
    whole on every process.  Matrices of one shape are made orthogonal as one stack.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        second: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        settings = {"momentum": momentum, "second": second, "weight_decay": weight_decay}
        super().__init__(parameters, {"lr": lr, **settings})
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
        momenta = [self._state(weight, "momentum", weight) for weight in stack]
        gradients = [weight.grad for weight in stack if weight.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonal_steps(list(ahead), self.dtype)
        updates = self._evened(updates, stack, group["second"])
        rows, columns = stack[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(stack, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(stack, updates, alpha=-group["lr"] * scale)

    def _evened(self, updates: list[Tensor], stack: list[Tensor], kept: float) -> list[Tensor]:
        """Neurons alike in size, each matrix as large as before; one exchange for the stack."""
        rows, columns = stack[0].shape
        along = 1 if rows >= columns else 0
        squares = [update.square().sum(dim=along, keepdim=True) for update in updates]
        sums = _whole(torch.stack(squares))  # (N,rows,1) or (N,1,columns)
        seconds = [
            self._state(weight, "second", one) for weight, one in zip(stack, sums, strict=True)
        ]
        usual = list((sums / min(rows, columns)).unbind())
        torch._foreach_lerp_(seconds, usual, 1 - kept)
        factors = torch.stack(seconds).clamp(min=1e-10).rsqrt()
        before, after = (m.sum(dim=(1, 2), keepdim=True) for m in (sums, sums * factors.square()))
        factors = factors * (before / after.clamp(min=1e-20)).sqrt()
        return [update * _beside(one, update) for update, one in zip(updates, factors, strict=True)]

    def _state(self, weight: Tensor, name: str, like: Tensor) -> Tensor:
        """A state of a weight, at first zeros like ``like`` (spread over processes as that is)."""
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(like)
        found: Tensor = state[name]
        return found


def _whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over processes, as each of them would have it alone."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _beside(whole: Tensor, spread: Tensor) -> Tensor:
    """A tensor that every process has, fit to be multiplied with one that may be spread."""
    if not isinstance(spread, DTensor):
        return whole
    mesh = spread.device_mesh
    return DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
