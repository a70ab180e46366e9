"""A model in, the same model with its weights spread over the processes: FSDP2, in place.

Every process holds a slice of each weight (a ``DTensor``), its gradient and its optimizer state
(arXiv:1910.02054, stage 3).  A layer's weights are gathered while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.utils.checkpoint import checkpoint

from fledge.core.errors import InputError
from fledge.model.decoder import Decoder
from fledge.train.config import LoopConfig
from fledge.train.world import World

Result = TypeVar("Result")


def prepare(model: Decoder, config: LoopConfig, world: World) -> None:
    """Make a model ready for training as configured, in place: before its optimizers are made."""
    if config.activation_checkpointing:
        recompute_layers(model)
    if world.size > 1:
        _check(config, world)
        spread(model, world)


def _check(config: LoopConfig, world: World) -> None:
    """Raise InputError for what several processes cannot do, before they begin."""
    if config.optimizer == "adamw8bit":
        raise InputError(
            'optimizer = "adamw8bit" works in one process only',
            remedy="use adamw, lion or muon: their states are spread over the processes",
        )
    if config.batch_rows and config.batch_rows % world.size:
        raise InputError(
            f"batch_rows = {config.batch_rows} cannot be divided among {world.size} processes",
            remedy=f"set batch_rows to a multiple of {world.size}",
        )


def spread(model: Decoder, world: World) -> Decoder:
    """Spread the weights over the processes of ``world``, in place; alone, nothing changes.

    Gradients become sums over the processes, not means: the loop divides by what all count.
    Call it before optimizers are made, with equal weights on every process.
    """
    if world.size == 1:
        return model
    mesh = init_device_mesh(model.device.type, (world.size,))
    # On a GPU the layers' weights travel in the type they are multiplied in: half the bytes.
    # The residual stream stays float32, so inputs are not cast.
    half = model.device.type == "cuda" and model.compute_dtype != torch.float32
    layers = MixedPrecisionPolicy(
        param_dtype=model.compute_dtype if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,
    )
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=layers)
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    for module in _parts(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # what gloo knows
    # FSDP gathers the outer weights (embedding, last norm, output matrix) around a forward pass.
    # An objective calls ``hidden`` and ``logits`` one after the other: all of it is one pass.
    model.run_gathered = MethodType(_run, model)  # type: ignore[assignment]
    register_fsdp_forward_method(model, "run_gathered")
    return model


def is_spread(model: Decoder) -> bool:
    """Whether the weights are spread over processes."""
    return isinstance(model, FSDPModule)


def _run(model: Decoder, task: Callable[..., Result], *arguments: Any) -> Result:
    return task(*arguments)


def gathered(model: Decoder, task: Callable[..., Result], *arguments: Any) -> Result:
    """``task(*arguments)``, in which ``model`` may be called as if its weights were whole.

    Every process must call it, and must call the layers equally often in it.
    """
    if not is_spread(model):
        return task(*arguments)
    result: Result = model.run_gathered(task, *arguments)  # type: ignore[operator]
    if not (isinstance(result, Tensor) and result.requires_grad):
        # No backward pass will do it; a later call must see the weights as they are then.
        model.reshard()
    return result


def sync_gradients(model: Decoder, wanted: bool) -> None:
    """Whether the next backward pass sums gradients over the processes: only a step's last need."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> float:
    """Scale all gradients down to the norm ``limit`` (0: never); returns the norm before."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    clip_grads_with_norm_(parameters, limit or math.inf, norm)
    return float(norm)


def recompute_layers(model: Decoder) -> None:
    """Keep only each layer's input for the backward pass and compute the rest again, in place.

    Activation checkpointing (arXiv:1604.06174): about a third more work, far less memory.
    """
    for layer in model.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def whole_model(
    model: Decoder, world: World, blank: Callable[[], Decoder] | None = None
) -> Decoder:
    """The model with whole weights, on its device: on the main process; as it is elsewhere.

    ``blank`` makes a model of the same layers where some of them were replaced (LoRA, quantized).
    """
    if world.size == 1:
        return model
    weights = whole_weights(model, world)
    if not world.is_main:
        return model
    whole = Decoder(model.config, model.compute_dtype) if blank is None else blank()
    whole.load_state_dict(weights)
    return whole.to(model.device)


def whole_weights(model: nn.Module, world: World) -> dict[str, Tensor]:
    """The state dict with whole weights, on CPU: on the main process; empty on the others."""
    whole: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.full_tensor() if isinstance(value, DTensor) else value
        if world.is_main:
            whole[name] = value.cpu()
    return whole


def _parts(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
