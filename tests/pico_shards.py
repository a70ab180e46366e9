"""Token shards of random documents, written as the tokens stage writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

VOCAB = 64
ENDOFTEXT = 0


def write_shards(
    folder: Path,
    splits: dict[str, list[list[list[int]]]],
    vocab: int = VOCAB,
    bytes_per_token: int = 3,
) -> Path:
    """``splits``: split -> shards -> documents -> token ids (without <|endoftext|>)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, described = [], {}
    for split, shards in splits.items():
        names, totals = [], {"tokens": 0, "documents": 0, "bytes": 0}
        for number, documents in enumerate(shards):
            whole = [[ENDOFTEXT, *ids] for ids in documents]
            flat = np.array([token for ids in whole for token in ids], dtype=np.uint16)
            offsets = np.cumsum([0, *map(len, whole)]).astype(np.int64)
            names.append(f"{split}-{number:05}.npy")
            np.save(folder / names[-1], flat)
            np.save(folder / f"{split}-{number:05}.offsets.npy", offsets)
            for index, ids in enumerate(documents):
                size = len(ids) * bytes_per_token
                row = {"split": split, "shard": number, "index": index, "bytes": size}
                rows.append({**row, "id": f"{split}-{number}-{index}", "lang": "en"})
                totals["bytes"] += size
            totals["tokens"] += len(flat)
            totals["documents"] += len(documents)
        described[split] = {**totals, "shards": [{"file": name} for name in names]}
    parquet.write_table(pa.Table.from_pylist(rows), folder / "documents.parquet")
    index = {"dtype": "uint16", "vocab_size": vocab, "endoftext_id": ENDOFTEXT}
    (folder / "index.json").write_text(json.dumps({**index, "splits": described}))
    return folder


def pattern_shards(folder: Path, documents: int = 60, seed: int = 0) -> Path:
    """Documents that count upwards from a random start: something a model can learn."""
    generator = np.random.default_rng(seed)

    def document() -> list[int]:
        start, length = int(generator.integers(1, VOCAB)), int(generator.integers(3, 40))
        return [1 + (start + i) % (VOCAB - 1) for i in range(length)]

    train = [[document() for _ in range(documents // 2)] for _ in range(2)]
    return write_shards(folder, {"train": train, "validation": [[document() for _ in range(8)]]})


def write_tokenizer(folder: Path) -> Path:
    """A stand-in for a tokenizer's files, which pretraining only copies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    return folder
