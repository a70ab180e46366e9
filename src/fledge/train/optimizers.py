"""A model and a config in, the optimizers of its weights out, each group with its peak rate."""

from __future__ import annotations

import importlib
import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fledge.core.errors import InputError
from fledge.model.decoder import Decoder
from fledge.train.config import LoopConfig
from fledge.train.ema import Average
from fledge.train.lion import Lion
from fledge.train.muon import Muon
from fledge.train.rates import EPS, betas_of, eps_of, weight_decays

SMALLEST_8BIT = 4096
"""Weights of a matrix from which its states are kept in 8 bits (arXiv:2110.02861, 3)."""


class Groups(NamedTuple):
    """The weights of a model by what they do; every trainable weight is in exactly one."""

    matrices: list[nn.Parameter]
    """Of the layers: what Muon and Lion are made for."""
    adapters: list[nn.Parameter]
    """A and B of LoRA."""
    embedding: list[nn.Parameter]
    output: list[nn.Parameter]
    """The output matrix when it is not the embedding."""
    vectors: list[nn.Parameter]
    """Weights of norms and biases."""


def group_weights(model: nn.Module) -> Groups:
    """The trainable weights by group."""
    groups = Groups([], [], [], [], [])
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            getattr(groups, _group(name, weight)).append(weight)
    return groups


def _group(name: str, weight: Tensor) -> str:
    if weight.ndim < 2:
        return "vectors"
    if name.endswith((".lora_A", ".lora_B")):
        return "adapters"
    if name.startswith("layers."):
        return "matrices"
    return "output" if name.startswith("lm_head.") else "embedding"


def build_optimizers(
    model: Decoder, config: LoopConfig, *, matrix_rate: float, other_rate: float
) -> list[Optimizer]:
    """The optimizers of all weights; each group has its "name" and keeps its peak rate as "peak".

    Matrices of the layers follow ``config.optimizer``; embedding, output matrix and vectors too
    with Lion, and have AdamW otherwise: Muon cannot treat them, and 8-bit states harm embeddings
    (arXiv:2110.02861, 2.3).  So do A and B of LoRA, at the rate of the matrices: what learns is
    their product, and a step that is orthogonal in each of them is none in it.  With
    ``config.ema`` the last one keeps the average.
    """
    batch_tokens = config.batch_rows * model.config.context
    # A and B decay towards the base model, and only when asked to.
    decays = {**weight_decays(config), "adapters": config.weight_decay or 0.0}
    described: list[dict[str, Any]] = [
        {
            "name": name,
            "params": weights,
            "lr": matrix_rate if name in ("matrices", "adapters") else other_rate,
            "weight_decay": decays[name],
            "eps": eps_of(config, name, batch_tokens),
        }
        for name, weights in group_weights(model)._asdict().items()
        if weights
    ]
    optimizers = _optimizers(described, model.compute_dtype, config)
    if config.ema is not None:
        optimizers.append(Average((w for g in described for w in g["params"]), config.ema))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _optimizers(
    groups: list[dict[str, Any]], dtype: torch.dtype, config: LoopConfig
) -> list[Optimizer]:
    """The optimizers that change the groups, that of the layers' matrices first."""
    betas = betas_of(config)
    if config.optimizer == "lion":
        return [Lion(groups, betas=betas)]
    if config.optimizer == "adamw":
        return [AdamW(groups, betas=betas, fused=True)]
    inner = [group for group in groups if group["name"] == "matrices"]
    other = [group for group in groups if group["name"] != "matrices"]
    found: list[Optimizer] = []
    if inner and config.optimizer == "muon":
        found.append(Muon(inner, lr=0.0, momentum=config.momentum, dtype=dtype))
    elif inner:
        found.append(_adamw_in_8_bits(inner, betas, config.eps or EPS))
    if other:
        found.append(AdamW(other, betas=betas, fused=True))
    return found


def _adamw_in_8_bits(
    groups: list[dict[str, Any]], betas: tuple[float, float], eps: float
) -> Optimizer:
    """AdamW whose states take two bytes a weight; raises InputError without bitsandbytes."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # kernels that are not used here
    try:
        library = importlib.import_module("bitsandbytes.optim")
    except Exception as error:  # it also fails where it finds no library for the GPU
        raise InputError(
            f'optimizer = "adamw8bit" needs bitsandbytes, which cannot be loaded ({error})',
            remedy="pip install 'fledge[8bit]', or use adamw, lion or muon",
        ) from None
    optimizer: Optimizer = library.AdamW8bit(
        groups, betas=betas, eps=eps, min_8bit_size=SMALLEST_8BIT
    )
    return optimizer


def set_rate(optimizers: list[Optimizer], factor: float) -> None:
    """Every group's rate becomes ``factor`` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
