"""Checks of the gradient: against float64, against finite differences, and as generated code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fledge.core.protocols import Silent
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.compile import compiled, has_compiler
from fledge.train.objective import cross_entropy
from fledge.train.verify.check import Check, Subject, flat_gradient, relative, rows_of, skipped
from fledge.train.verify.pico import pico_config

VOCABULARY = 29
DIRECTIONS = 8
STEP = 1e-4
"""Of finite differences in float64: the error is about STEP^2."""
DIFFERENCE_TOLERANCE = 1e-5
SINGLE_TOLERANCE = 1e-4
COMPILED_TOLERANCE = 1e-3


def gradient_check(subject: Subject) -> Check:
    """On a pico sibling: float64 finite differences = float64 gradient = float32 gradient."""
    model, batch = _pico(subject), _batch(subject)
    single_loss = _backward(model, batch)
    single = flat_gradient(model)
    model.double().compute_dtype = torch.float64
    with _Double():
        double_loss = _backward(model, batch)
        double = flat_gradient(model)
        worst = max(_slope_error(model, batch, double, seed) for seed in range(DIRECTIONS))
    off = float((single - double).norm() / double.norm())
    ok = worst <= DIFFERENCE_TOLERANCE and off <= SINGLE_TOLERANCE
    return Check(
        "gradient-check",
        ok and relative(single_loss, double_loss) <= SINGLE_TOLERANCE,
        f"{len(double):,} weights of a pico model alike: finite differences along {DIRECTIONS} "
        f"directions against the float64 gradient: {worst:.1e}; float32 gradient against it: "
        f"{off:.1e}; loss {single_loss:.7f} and {double_loss:.7f}",
    )


def compiled_code(subject: Subject) -> Check:
    """Generated code gives the loss and gradient of the code it was generated from."""
    name = "compiled-code"
    if not has_compiler():
        return skipped(name, "no C++ compiler on this machine")
    model, batch = _pico(subject), _batch(subject)
    loss = _backward(model, batch)
    gradient = flat_gradient(model)
    fast = compiled(cross_entropy(), model, batch, Silent())
    if fast is None:
        return skipped(name, "code cannot be generated on this machine")
    fast_loss = _backward(model, batch, fast)
    off = float((flat_gradient(model) - gradient).norm() / gradient.norm())
    return Check(
        name,
        relative(loss, fast_loss) <= SINGLE_TOLERANCE and off <= COMPILED_TOLERANCE,
        f"loss {loss:.7f} plain, {fast_loss:.7f} generated; gradient differs by {off:.1e}",
    )


def _pico(subject: Subject) -> Decoder:
    """A pico sibling whose every weight is random, so that nothing hides behind zeros."""
    model = Decoder(pico_config(subject.model.config, VOCABULARY))
    generator = torch.Generator().manual_seed(subject.seed + 1)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.1 * noise if weight.ndim == 1 else 0.3 * noise)
    return model


def _batch(subject: Subject) -> Batch:
    generator = np.random.default_rng(subject.seed)
    texts = [generator.integers(0, VOCABULARY, n) for n in (9, 7, 14)]
    return rows_of([texts[:2], texts[2:]], 17)


def _backward(
    model: Decoder, batch: Batch, objective: Callable[[Decoder, Batch], Tensor] | None = None
) -> float:
    """The loss a target; gradients are left in the model."""
    model.zero_grad(set_to_none=True)
    loss = (objective or cross_entropy())(model, batch) / batch.weights.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def _slope_error(model: Decoder, batch: Batch, gradient: Tensor, seed: int) -> float:
    """Relative error of (L(w + h v) - L(w - h v)) / 2h against gradient . v, for a random v."""
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(len(gradient), generator=generator, dtype=torch.float64)
    # Half of it along the gradient itself, so that the slope is far from zero.
    direction = direction / direction.norm() + gradient / gradient.norm()
    shifts = direction.split([p.numel() for p in parameters])
    losses = []
    for sign in (1.0, -2.0):  # w + h v, then w - h v
        with torch.no_grad():
            for parameter, shift in zip(parameters, shifts, strict=True):
                parameter.add_(shift.view_as(parameter), alpha=sign * STEP)
            losses.append(float(cross_entropy()(model, batch) / batch.weights.sum()))
    with torch.no_grad():
        for parameter, shift in zip(parameters, shifts, strict=True):
            parameter.add_(shift.view_as(parameter), alpha=STEP)
    return relative((losses[0] - losses[1]) / (2 * STEP), float(gradient @ direction))


class _Double(TorchFunctionMode):
    """Inside, what asks for float32 gets float64: the model's own code, in double precision."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.float:
            return args[0].double()
        wider = {torch.float32: torch.float64}
        args = tuple(wider.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        named = {
            k: wider.get(v, v) if isinstance(v, torch.dtype) else v
            for k, v in (kwargs or {}).items()
        }
        return func(*args, **named)
