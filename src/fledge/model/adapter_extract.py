"""A base and a fully fine-tuned model in, the adapter that comes nearest to the difference out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fledge.core.errors import InputError
from fledge.core.protocols import Progress, Silent
from fledge.model.adapter_folder import note_base
from fledge.model.checkpoint import load_model
from fledge.model.decoder import Decoder
from fledge.model.importing import check_place, partial_folder
from fledge.model.locate import find_checkpoint
from fledge.model.lora import add_lora, lora_layers
from fledge.model.lora_checkpoint import save_lora
from fledge.model.lora_config import LoraConfig


@torch.no_grad()
def extract_adapter(
    base: Path | str, tuned: Path | str, out: Path, rank: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the adapter of ``rank`` that is nearest to tuned - base (Eckart and Young) to ``out``.

    ``kept`` of a layer is the share of the squared change that the rank holds.  What else differs
    (embedding, norms, biases) an adapter cannot say: ``left_out`` names it.
    """
    progress = progress or Silent()
    source, other = find_checkpoint(base), find_checkpoint(tuned)
    check_place(out, source, force=False)
    check_place(out, other, force=False)
    model, goal = load_model(source), load_model(other)
    _check_alike(model, goal, source, other)
    config = LoraConfig(rank=rank, alpha=rank)  # scale 1
    wanted = dict(goal.named_parameters())
    names = add_lora(model, config)
    kept = {}
    with progress.bar("extract", len(names), "layers") as bar:
        for name, layer in lora_layers(model).items():
            change = wanted.pop(f"{name}.weight") - layer.base.weight
            u, s, v = torch.linalg.svd(change, full_matrices=False)
            used = min(rank, len(s))
            layer.lora_A.zero_()
            layer.lora_A[:used] = s[:used, None].sqrt() * v[:used]
            layer.lora_B[:, :used] = u[:, :used] * s[:used].sqrt()
            total = float(s.square().sum())
            kept[name] = float(s[:used].square().sum()) / total if total else 1.0
            bar.advance()
    before = dict(model.named_parameters())
    left_out = [name for name in wanted if name in before and not wanted[name].equal(before[name])]
    with partial_folder(out) as partial:
        save_lora(model, partial, config, base=str(source))
        note_base(partial, None)
    return {"out": str(out), "rank": rank, "kept": kept, "left_out": left_out}


def _check_alike(model: Decoder, goal: Decoder, source: Path, other: Path) -> None:
    shapes = [{n: tuple(w.shape) for n, w in one.named_parameters()} for one in (model, goal)]
    differing = [n for n, shape in shapes[0].items() if shapes[1].get(n) != shape]
    if differing or shapes[0].keys() != shapes[1].keys():
        name = differing[0] if differing else next(iter(shapes[1].keys() - shapes[0].keys()))
        raise InputError(
            f"{source} and {other} differ in the shape of {name}",
            remedy="the second must have been fine-tuned from the first, without new tokens",
        )
