"""An index of 1,000 files against LlamaIndex, and LanceDB with a million vectors.

    python benchmarks/index.py --peer-python PYTHON [--files 1000] [--rounds 3] [--encoder FOLDER]
    python benchmarks/index.py --lance-rows 1000000 [--dimensions 384]

PYTHON has llama-index-core.  Both sides read the same files (cut from $FLEDGE_DATA, generated
without it) and use the same "embedder", which draws a vector from the text's CRC-32; its time is
taken out of "ingest".  With --encoder both embed with that folder of MiniLM, imports and loading
included (PYTHON then has llama-index-embeddings-huggingface too), and only ingest is measured.
Each side and phase runs in a process of its own, in turn; medians.

ingest: files read, split, indexed and on disk.  reload: from the folder to the first answer, the
program already imported.  query: ten chunks with their texts, the vector given.  memory: the
largest resident set of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

CONTENDER = Path(__file__).with_name("index_contender.py")
SETS = ("python_peps/peps", "rust_book_en/docs", "howtocook_zh/docs")
A_DOCUMENT, A_COMMIT = 100, 20_000
"""Vectors of a document, and of a commit, in the large index."""
LENGTH = 1500
"""Bytes of a file, about."""


def texts(count: int) -> list[str]:
    """Pieces of real documents of about ``LENGTH`` bytes; of drawn words without $FLEDGE_DATA."""
    drawn, folder = random.Random(0), os.environ.get("FLEDGE_DATA", "")
    if not folder:
        words = [f"word{at}" for at in range(5000)]
        return [" ".join(drawn.choices(words, k=220)) + "." for _ in range(count)]
    pieces: list[str] = []
    for name in SETS:
        with zstandard.open(Path(folder) / f"{name}.jsonl.zst", "rt", encoding="utf-8") as file:
            for line in file:
                text = json.loads(line)["text"]
                size = LENGTH * len(text) // max(len(text.encode()), 1)
                pieces += [text[at : at + size] for at in range(0, len(text), max(size, 1))]
    return drawn.sample([piece for piece in pieces if len(piece.strip()) > 200], count)


def contend(python: str, side: str, phase: str, *rest: Path | str) -> dict[str, float]:
    """What one side measured in a process of its own."""
    done = subprocess.run(
        [python, str(CONTENDER), side, phase, *map(str, rest)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{side} {phase} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def against_llama(peer: str, count: int, rounds: int, encoder: str) -> None:
    """Print both sides' figures and their ratios."""
    sides = {"fledge": sys.executable, "llama_index": peer}
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as work:
        files = Path(work) / "files"
        files.mkdir()
        for at, text in enumerate(texts(count)):
            (files / f"{at:05}.txt").write_text(text, encoding="utf-8")
        for turn in range(rounds):
            for side, python in sides.items():
                out = Path(work) / f"{side}-{turn}"
                found = contend(python, side, "ingest", files, out, encoder)
                if not encoder:
                    found |= contend(python, side, "query", files, out)
                seen[side].append(found)
                print(json.dumps({"side": side, "turn": turn, **found}), flush=True)
    own, other = (
        {key: median(found[key] for found in seen[side]) for key in seen[side][0]} for side in sides
    )
    for key in own:
        ratio = other[key] / own[key] if own[key] else float("inf")
        print(f"{key}: {own[key]:.4g} against {other[key]:.4g}, ratio {ratio:.1f}")


def clustered(count: int, dimensions: int, drawn: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors around centres that lie around fewer centres: as embeddings do."""
    coarse = drawn.standard_normal((200, dimensions))
    fine = coarse[drawn.integers(200, size=5000)] + 0.7 * drawn.standard_normal((5000, dimensions))
    found = np.empty((count, dimensions), dtype=np.float32)
    for at in range(0, count, 100_000):
        part = found[at : at + 100_000]
        noise = drawn.standard_normal(part.shape, dtype=np.float32)
        part[:] = fine[drawn.integers(5000, size=len(part))] + 0.8 * noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found


def entries_of(vectors: NDArray[np.float32], first: int, last: int) -> list[Any]:
    """Documents of ``A_DOCUMENT`` chunks, "chunk 000000123" each, with these vectors."""
    from fledge.core.types import Document
    from fledge.index.chunk import Chunk
    from fledge.index.store.protocol import Entry

    entries = []
    for begin in range(first, last, A_DOCUMENT):
        mine = vectors[begin : min(begin + A_DOCUMENT, last)]
        numbers = range(begin, begin + len(mine))
        entries.append(
            Entry(
                document=Document(
                    id=f"d{begin:09}", text="".join(f"chunk {one:09}\n" for one in numbers)
                ),
                path=f"d{begin:09}",
                kind="plain",
                fingerprint="",
                chunks=tuple(Chunk(start=16 * at, end=16 * at + 15) for at in range(len(mine))),
                terms=tuple(("chunk", f"{one:09}") for one in numbers),
                vectors=mine,
            )
        )
    return entries


def searched(store: Any, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> Any:
    """p50 and p95 in milliseconds, and recall@10 against every vector compared."""
    took, right = [], 0
    with store.snapshot() as snapshot:
        snapshot.nearest(queries[0], 10)
        for query in queries:
            start = time.perf_counter()
            hits = snapshot.nearest(query, 10)
            took.append(1e3 * (time.perf_counter() - start))
            found = {seen.text for seen in snapshot.chunks([hit.chunk for hit in hits])}
            exact = np.argpartition(vectors @ query, -10)[-10:]
            right += sum(f"chunk {at:09}" in found for at in exact)
        size = snapshot.sizes().bytes
    took.sort()
    return {
        "disk_megabytes": round(size / 1e6),
        "p50_milliseconds": round(took[len(took) // 2], 2),
        "p95_milliseconds": round(took[int(len(took) * 0.95)], 2),
        "recall_at_10": round(right / (10 * len(queries)), 4),
    }


def with_lance(rows: int, dimensions: int) -> None:
    """Build time, disk, p50 and recall of the Lance store with so many vectors."""
    from fledge.index.store.lance.store import LanceStore

    drawn = np.random.default_rng(0)
    vectors = clustered(rows, dimensions, drawn)
    with tempfile.TemporaryDirectory() as work:
        store = LanceStore.create(Path(work) / "index", {})
        start = time.perf_counter()
        for at in range(0, rows, A_COMMIT):
            store.commit(entries_of(vectors, at, min(at + A_COMMIT, rows)))
        written = time.perf_counter() - start
        start = time.perf_counter()
        store.compact()
        indexed = time.perf_counter() - start
        noise = 0.02 * drawn.standard_normal((200, dimensions), dtype=np.float32)
        queries = vectors[drawn.integers(rows, size=200)] + noise
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        found = searched(store, vectors, queries)
        store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    told = {"rows": rows, "dimensions": dimensions, "write_seconds": round(written, 1)}
    told |= {"index_seconds": round(indexed, 1), **found, "peak_gigabytes": round(peak, 2)}
    print(json.dumps(told))


def main() -> None:
    """Read the options and run what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default="")
    parser.add_argument("--lance-rows", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=384)
    asked = parser.parse_args()
    if asked.peer_python:
        against_llama(asked.peer_python, asked.files, asked.rounds, asked.encoder)
    if asked.lance_rows:
        with_lance(asked.lance_rows, asked.dimensions)


if __name__ == "__main__":
    main()
