"""Linear layers that keep their matrix in 8 or 4 bits: a ``Linear`` in, a smaller one out.

Two formats: **int8**, symmetric, a scale for every ``group`` inputs of an output (with groups of
32 and float16 scales the numbers of GGUF's Q8_0), and **NF4**, QLoRA's 4-bit normal float
(arXiv:2305.14314, section 3).  The forward pass rebuilds the matrix in the type of the
activations and multiplies; gradients reach the input, so that LoRA trains on top, and the
backward pass rebuilds the matrix again rather than keeping it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.core.errors import InputError
from fledge.model.linear import Linear
from fledge.model.quantization import (
    Packed,
    dequantize_int8,
    dequantize_nf4,
    quantize_int8,
    quantize_nf4,
)

Method = Literal["int8", "nf4"]

BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}
"""A float type -> the integer type of the same size."""


class QuantizedLinear(nn.Module, ABC):
    """A linear layer whose matrix lies packed in buffers; its bias, if any, is a parameter.

    ``model.to(dtype)`` leaves the packed numbers as they are: scales never lose bits.
    """

    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, group: int, bias: Tensor | None) -> None:
        super().__init__()
        self.inputs, self.outputs, self.group = inputs, outputs, group
        kept = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_parameter("bias", kept)

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The matrix these bits mean: (outputs, inputs) float32, a new tensor at every call."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of the packed matrix."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        out: Tensor = _Multiply.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"{self.inputs}, {self.outputs}, group={self.group}"

    def _keep(self, packed: Packed) -> None:
        for name, tensor in packed.items():
            self.register_buffer(name, tensor)

    def _packed(self) -> Packed:
        return dict(self.named_buffers(recurse=False))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """Move with the model, but keep the types: floats pass through ``fn`` as raw bits."""
        types = {name: t.dtype for name, t in self._packed().items() if t.is_floating_point()}
        for name, dtype in types.items():
            self._buffers[name] = self._packed()[name].view(BITS[dtype])
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, dtype in types.items():
            self._buffers[name] = self._packed()[name].view(dtype)
        return self


class Int8Linear(QuantizedLinear):
    """Buffers ``codes`` int8 (outputs, inputs) and ``scales`` (outputs, groups)."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        group: int = 64,
        scale_dtype: torch.dtype = torch.float16,
    ) -> None:
        super().__init__(weight.shape[1], weight.shape[0], group, bias)
        self._keep(quantize_int8(weight, group, scale_dtype))

    @property
    def weight(self) -> Tensor:
        return dequantize_int8(self._packed(), self.group)


class NF4Linear(QuantizedLinear):
    """Buffers ``codes`` uint8, two numbers a byte, and a scale for each block of ``group``.

    Blocks run over the flattened matrix.  ``double``: the scales themselves become 8-bit.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        group: int = 64,
        double: bool = False,
    ) -> None:
        super().__init__(weight.shape[1], weight.shape[0], group, bias)
        self._keep(quantize_nf4(weight, group, double))

    @property
    def weight(self) -> Tensor:
        return dequantize_nf4(self._packed(), (self.outputs, self.inputs), self.group)


class _Multiply(torch.autograd.Function):
    """x @ weight.T with the gradient of x; the matrix is rebuilt, never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.weight.to(gradient.dtype), None


def quantize_linears(
    model: nn.Module,
    how: Method,
    *,
    group: int = 64,
    skip: tuple[str, ...] = ("lm_head",),
    double: bool = False,
) -> list[str]:
    """Replace every ``Linear`` of ``model`` by a quantized one; returns their names, in order.

    ``skip``: the last part of names that stay as they are.  ``double`` (NF4) quantizes the scales
    too.  Embeddings and norms are no ``Linear`` and stay.  Raises InputError when nothing is left
    to quantize or a weight is not finite.
    """
    if how not in ("int8", "nf4"):
        raise InputError(f"quantization {how!r} is not known", remedy="use int8 or nf4")
    if double and how != "nf4":
        raise InputError("double quantization is for nf4 only", remedy="leave double away")
    names = [
        name
        for name, module in model.named_modules()
        if type(module) is Linear and name.rpartition(".")[2] not in skip
    ]
    if not names:
        raise InputError("the model has no linear layer to quantize", remedy=f"skip: {skip}")
    for name in names:
        if not model.get_parameter(f"{name}.weight").isfinite().all():
            raise InputError(f"{name}.weight holds NaN or infinity", remedy="check the checkpoint")
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, Linear)
        packed: QuantizedLinear = (
            Int8Linear(linear.weight.detach(), linear.bias, group=group)
            if how == "int8"
            else NF4Linear(linear.weight.detach(), linear.bias, group=group, double=double)
        )
        replace_module(model, name, packed.train(linear.training))
    return names


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the submodule called ``name``."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
