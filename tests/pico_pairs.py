"""Files of preference pairs, for tests of the stages that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "epochs": 2,
    "batch_rows": 4,
    "compile": False,
    "checkpoint_every_seconds": 1e9,
    "held_out": 0.15,
    "learning_rate": 0.005,
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def polite_pairs(path: Path, count: int = 60) -> Path:
    """Pairs of which the chosen answer answers and the rejected one does not."""
    rows = [
        {"prompt": f"{n} + 1?", "chosen": f"It is {n + 1}.", "rejected": f"Who knows? {n * 7}"}
        for n in range(count)
    ]
    return write_rows(path, rows)
