"""Held-out token shards in, one row of nats per document out: bits per byte of a rung."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from fledge.core.files import read_json
from fledge.core.protocols import Progress
from fledge.engine.engine import Engine
from fledge.engine.score import score_windows
from fledge.evals.config import EvalsConfig
from fledge.evals.tasks import Row
from fledge.evals.text import stride_of, window_of
from fledge.metrics.density import bits_per_byte
from fledge.metrics.intervals import bootstrap
from fledge.train.shards import TokenShards

SPLIT = "validation"

WIDEST = 8.0
"""Bits of a byte: how far the interval reaches where documents cannot tell."""


def score_documents(
    engine: Engine, config: EvalsConfig, tokens: Path, progress: Progress, label: str
) -> list[Row]:
    """``{"document", "language", "bytes", "tokens", "nats"}`` of sampled held-out documents.

    The token that begins a document is read, not scored; the bytes are those of its text.
    """
    shards = TokenShards(tokens, SPLIT)
    sizes = shards.document_bytes()
    languages = _languages(tokens)
    chosen = _choose(shards.lengths.tolist(), config.validation_tokens, config.seed)
    documents = [shards.read(i, 0, int(shards.lengths[i])).tolist() for i in chosen]
    total = sum(len(ids) - 1 for ids in documents)
    with progress.bar(label, total, "tokens") as bar:
        nats = score_windows(
            engine.model,
            documents,
            context=window_of(engine),
            stride=stride_of(engine, config.stride),
            advance=bar.advance,
        )
    return [
        {
            "document": i,
            "language": languages[i],
            "bytes": int(sizes[i]),
            "tokens": len(part),
            "nats": round(float(part.sum(dtype=np.float64)), 4),
        }
        for i, part in zip(chosen, nats, strict=True)
    ]


def has_validation(tokens: Path) -> bool:
    """Whether there are held-out documents."""
    return bool(read_json(tokens / "index.json").get("splits", {}).get(SPLIT, {}).get("shards"))


def summarise_documents(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Bits per byte of all rows with its interval over documents, and by language.

    The interval redraws documents.  A single one (or several alike) says nothing about others, so
    its interval is all that is possible: 0 to 8 bits, or to twice the value where that is more.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["language"] or "unknown"].append(row)
    by_language = {name: _density(groups[name], seed) for name in sorted(groups)}
    return {"metric": "bits_per_byte", **_density(rows, seed), "by_language": by_language}


def _density(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    bits = [bits_per_byte(row["nats"], 1) for row in rows]
    sizes = [float(row["bytes"]) for row in rows]
    value = sum(bits) / sum(sizes)
    low, high = bootstrap(bits, sizes, draws=1000, seed=seed)
    if not low < high:
        low, high = 0.0, max(WIDEST, 2 * value)
    return {
        "value": round(value, 6),
        "ci95": [round(low, 6), round(high, 6)],
        "n": len(rows),
        "bytes": sum(row["bytes"] for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
    }


def _choose(lengths: Sequence[int], limit: int, seed: int) -> list[int]:
    """Documents drawn by ``seed`` until ``limit`` tokens are reached, in their first order."""
    order = list(range(len(lengths)))
    random.Random(f"validation/{seed}").shuffle(order)
    chosen, total = [], 0
    for i in order:
        if total >= limit:
            break
        if lengths[i] > 1:
            chosen.append(i)
            total += lengths[i]
    return sorted(chosen)


def _languages(tokens: Path) -> list[str]:
    """The language of each held-out document, in the order of the shards."""
    columns = ["split", "shard", "index", "lang"]
    table = parquet.read_table(tokens / "documents.parquet", columns=columns)
    rows = [row for row in table.to_pylist() if row["split"] == SPLIT]
    return [row["lang"] or "" for row in sorted(rows, key=lambda r: (r["shard"], r["index"]))]
