"""A batch that was skipped in, its files for inspection out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from fledge.core.files import replacing, write_json
from fledge.train.batch import Batch

KEPT = 8
"""Batches kept of a run: the first ones."""


def spike_row(
    *, step: int, batch_number: int, loss: float, norm: float, fault: str, rewound_to: int | None
) -> dict[str, Any]:
    """What is told of a skipped batch.  Steps count from 1; a loss that is no number is None."""
    return {
        "step": step,
        "batch": batch_number,
        "loss": loss if math.isfinite(loss) else None,
        "grad_norm": norm if math.isfinite(norm) else None,
        "reason": fault,
        "rewound_to": rewound_to,
    }


def keep_batch(folder: Path, batch: Batch, row: dict[str, Any]) -> Path | None:
    """Write the batch and what is told of it to ``folder``; None when enough are there.

    ``batch-<number>.safetensors`` holds the tensors of ``Batch`` by name, the JSON beside it
    ``row``.
    """
    path = folder / f"batch-{row['batch']:09d}.safetensors"
    kept = set(folder.glob("batch-*.safetensors")) if folder.is_dir() else set()
    if path not in kept and len(kept) >= KEPT:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        parts = {name: part for name, part in batch._asdict().items() if part is not None}
        save_file({name: part.contiguous() for name, part in parts.items()}, temporary)
    write_json(path.with_suffix(".json"), row)
    return path
