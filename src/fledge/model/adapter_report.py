"""An adapter folder in, what it changes out: layers, ranks, sizes, how far it moves each matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fledge.model.adapter_folder import find_adapter, load_adapted, noted_base
from fledge.model.lora import lora_layers
from fledge.model.lora_checkpoint import PREFIX, WEIGHTS_FILE, read_lora
from fledge.model.token_rows_checkpoint import CONFIG_KEY


def describe_adapter(adapter: Path | str, base: Path | str | None = None) -> dict[str, Any]:
    """What the adapter is, and a row for each layer that it changes, in the adapter's order.

    A layer has ``change``, the Frobenius norm of scale B A.  With its ``base`` that is the norm
    of the whole change of the matrix, lengths of DoRA included, and ``relative`` divides it by
    the norm of the matrix.
    """
    folder = find_adapter(adapter)
    config, values, weights = read_lora(folder)
    places = values.get(CONFIG_KEY) or []
    tokens = (
        {one for rows in places.values() for one in rows} if isinstance(places, dict) else places
    )
    return {
        "adapter": str(folder),
        "base": values.get("base_model_name_or_path"),
        "quantize_base": noted_base(folder),
        "rank": config.rank,
        "alpha": config.alpha,
        "scale": config.scale,
        "dropout": config.dropout,
        "stabilised": config.stabilised,
        "dora": config.dora,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "tokens": len(tokens),
        "layers": _by_base(base, folder) if base else _alone(weights, config.scale),
    }


def _alone(weights: dict[str, Tensor], scale: float) -> list[dict[str, Any]]:
    rows = []
    for key, a in weights.items():
        stem = key.removesuffix(".lora_A.weight")
        if stem != key:
            b = weights[f"{stem}.lora_B.weight"]
            name = stem.removeprefix(PREFIX)
            rows.append(_row(name, a.float(), b.float(), product_norm(a, b) * scale))
    return rows


@torch.no_grad()
def _by_base(base: Path | str, folder: Path) -> list[dict[str, Any]]:
    model, _ = load_adapted(base, folder)
    rows = []
    for name, layer in lora_layers(model).items():
        before = layer.base.weight.float()
        change = float(torch.linalg.vector_norm(layer.merged() - before))
        full = name if name.startswith("lm_head") else f"model.{name}"
        row = _row(full, layer.lora_A, layer.lora_B, change)
        rows.append({**row, "relative": change / max(float(before.norm()), 1e-30)})
    return rows


def product_norm(a: Tensor, b: Tensor) -> float:
    """The Frobenius norm of B A from what is small: |BA|^2 = tr(B'B A A').

    a (rank,inputs), b (outputs,rank)
    """
    a, b = a.double(), b.double()
    return float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())


def _row(name: str, a: Tensor, b: Tensor, change: float) -> dict[str, Any]:
    return {
        "name": name,
        "shape": [b.shape[0], a.shape[1]],
        "rank": a.shape[0],
        "parameters": a.numel() + b.numel(),
        "change": change,
    }
