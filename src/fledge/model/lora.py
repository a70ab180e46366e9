"""LoRA: a model in, the same model with small trainable matrices beside its frozen ones.

LoRA arXiv:2106.09685, rsLoRA arXiv:2312.03732, DoRA arXiv:2402.09353.  The frozen matrix may be
quantized (QLoRA, arXiv:2305.14314).  Order: ``add_lora``, train, then ``merge_lora`` (a plain
model again) or ``save_lora`` (the small matrices alone).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.model.linear import Linear
from fledge.model.lora_config import LoraConfig
from fledge.model.quantized import QuantizedLinear, replace_module
from fledge.model.token_rows import TokenRows, merge_rows, remove_rows, token_rows

OPTIONAL = ("gate_proj",)
"""Targets a model may lack (a feed-forward block without gate)."""


class LoraLinear(nn.Module):
    """y = base(x) + scale B A x; with DoRA each output is also brought to a learned length.

    ``lora_A`` (rank, inputs), ``lora_B`` (outputs, rank) and ``magnitude`` (outputs) are float32
    whatever the base is, and compute in the type of the input.
    """

    def __init__(
        self, base: Linear | QuantizedLinear, config: LoraConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        weight = base.weight.detach()
        outputs, inputs = weight.shape
        self.base = base.requires_grad_(False)
        self.scale, self.dropout = config.scale, config.dropout
        self.enabled = True
        bound = inputs**-0.5  # uniform within this: the deviation of W's usual start
        start = torch.rand(config.rank, inputs, generator=generator) * 2 * bound - bound
        self.lora_A = nn.Parameter(start.to(weight.device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, config.rank, device=weight.device))
        length = nn.Parameter(self._length(weight)) if config.dora else None
        self.register_parameter("magnitude", length)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        out: Tensor = self.base(x)
        if not self.enabled:
            return out
        dropped = F.dropout(x, self.dropout, self.training)
        low = F.linear(dropped, self.lora_A.to(x.dtype))
        change = F.linear(low, self.lora_B.to(x.dtype)) * self.scale
        if self.magnitude is None:
            return out + change
        stretch = (self.magnitude / self._length(self.base.weight)).to(x.dtype)
        # DoRA, eq. 5: stretch (W x + change) + bias, written so that stretch 1 changes no bit.
        plain = out if self.base.bias is None else out - self.base.bias.to(x.dtype)
        return out + (stretch - 1) * plain + stretch * change

    @property
    def weight(self) -> Tensor:
        """The matrix it stands for now, (outputs, inputs): for who multiplies by it himself."""
        return self.merged() if self.enabled else self.base.weight

    def merged(self) -> Tensor:
        """The one matrix that does the same, (outputs, inputs) float32."""
        weight = self.base.weight.float()
        total = weight + self.scale * (self.lora_B @ self.lora_A)
        if self.magnitude is None:
            return total
        return total * (self.magnitude / self._length(weight)).unsqueeze(1)

    @torch.no_grad()
    def _length(self, weight: Tensor) -> Tensor:
        """Norm of each output's weights, a constant to the gradient (DoRA, section 4.3): (O,)"""
        changed = weight.float() + self.scale * (self.lora_B @ self.lora_A)
        lengths: Tensor = torch.linalg.vector_norm(changed, dim=1)
        return lengths.clamp(min=torch.finfo(torch.float32).tiny)  # an output of zeros


def add_lora(model: nn.Module, config: LoraConfig, *, seed: int = 0) -> list[str]:
    """Freeze ``model`` and put a ``LoraLinear`` around each target; returns their names, in order.

    The model computes what it did before until the first step.  Raises InputError for a target
    that the model does not have, and when LoRA is there already.
    """
    _check_free(model)
    known = linear_names(model)
    kinds = {name.rpartition(".")[2] for name in known}
    for target in config.targets:
        if target not in kinds and target not in OPTIONAL:
            raise InputError(
                f"LoRA target {target!r} is not in the model", remedy=nearest(target, list(kinds))
            )
    names = [name for name in known if name.rpartition(".")[2] in config.targets]
    adapt(model, names, config, seed=seed)
    return names


def adapt(model: nn.Module, names: list[str], config: LoraConfig, *, seed: int = 0) -> None:
    """``add_lora`` for the linear layers called ``names``, whatever ``config.targets`` says."""
    _check_free(model)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        base = model.get_submodule(name)
        assert isinstance(base, Linear | QuantizedLinear)
        replace_module(model, name, LoraLinear(base, config, generator).train(base.training))


def linear_names(model: nn.Module) -> list[str]:
    """Names of the layers of ``model`` that LoRA can adapt, in order."""
    kinds = Linear | QuantizedLinear
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Names and adapted layers of ``model``, in order."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LoraLinear)}


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The trainable tensors alone: ``<layer>.lora_A``, ``.lora_B`` and ``.magnitude``."""
    return {
        f"{name}.{part}": tensor
        for name, layer in lora_layers(model).items()
        for part, tensor in layer.named_parameters(recurse=False)
    }


@torch.no_grad()
def merge_lora(model: nn.Module) -> list[str]:
    """Add the small matrices into the large ones; plain linear layers remain, all trainable.

    So do rows of tokens that learnt beside them.  A quantized base becomes a float32 ``Linear``,
    so that the sum keeps its bits: quantize again when wanted.  Returns the names of the layers.
    """
    names = list(lora_layers(model))
    for name in names:  # one by one: the old matrices go as the new ones come
        layer = model.get_submodule(name)
        assert isinstance(layer, LoraLinear)
        replace_module(model, name, _plain(layer))
    merge_rows(model)
    if names:
        model.requires_grad_(True)
    return names


def remove_lora(model: nn.Module) -> list[str]:
    """Take the small matrices away: the model as it was before ``add_lora``, all trainable."""
    layers = lora_layers(model)
    for name, layer in layers.items():
        replace_module(model, name, layer.base)
    remove_rows(model)
    if layers:
        model.requires_grad_(True)
    return list(layers)


@contextmanager
def lora_disabled(model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` computes as if it had no LoRA (log-probabilities of the reference)."""
    parts: list[LoraLinear | TokenRows] = [
        *lora_layers(model).values(),
        *token_rows(model).values(),
    ]
    before = {part: part.enabled for part in parts}
    for layer in before:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in before.items():
            layer.enabled = enabled


def _check_free(model: nn.Module) -> None:
    if lora_layers(model):
        raise InputError("the model has LoRA already", remedy="merge_lora or remove_lora first")


def _plain(layer: LoraLinear) -> Linear:
    outputs, inputs = layer.lora_B.shape[0], layer.lora_A.shape[1]
    bias, base = layer.base.bias, layer.base
    dtype = base.weight.dtype if isinstance(base, Linear) else torch.float32
    plain = Linear(inputs, outputs, bias is not None).to(layer.lora_A.device, dtype)
    plain.weight.copy_(layer.merged())
    if bias is not None and plain.bias is not None:
        plain.bias.copy_(bias)
    return plain.train(layer.training)
