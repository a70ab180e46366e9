"""Pairs and an embedder in, the pairs with hard negatives out: texts near a query, but wrong.

What is as near as the right text may well be right, too: such texts are left out (the guard of
arXiv:2407.15831), and so is every text that stands in a row with the query or its positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.core.protocols import Progress
from fledge.tune.embedder_config import MineConfig
from fledge.tune.embedder_rows import PairRow, by_source

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

PIECE = 512
"""Queries whose scores are in memory at once."""


def mine_negatives(
    rows: Sequence[PairRow], embed: Embed, config: MineConfig, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Each row as JSON with its ``negatives``: positives of its own source, nearest first.

    A row for which no text passes the guard has none.
    """
    for name, items in by_source(rows).items():
        with progress.bar(f"mine {name}", len(items), "pairs") as bar:
            mine = [rows[item] for item in items]
            texts = list(dict.fromkeys(row.positive for row in mine))
            table = embed(texts)
            right = _right(mine, texts)
            for start in range(0, len(mine), PIECE):
                part = mine[start : start + PIECE]
                scores = embed([row.query for row in part]) @ table.T
                for row, score in zip(part, scores, strict=True):
                    chosen = hard_negatives(score, right[row.query] | right[row.positive], config)
                    yield _as_json(row, [texts[number] for number in chosen])
                bar.advance(len(part))


def hard_negatives(scores: NDArray[np.float32], right: set[int], config: MineConfig) -> list[int]:
    """Numbers of the texts that pass, nearest first.  scores (P,), ``right``: what is correct.

    None where the embedder sees no likeness to what is correct: nothing there to be held against.
    """
    best = max(float(scores[number]) for number in right)
    if best <= 0:
        return []
    depth = min(len(scores), config.depth + len(right))
    near = np.argpartition(-scores, depth - 1)[:depth]
    ordered = [int(n) for n in near[np.lexsort((near, -scores[near]))] if int(n) not in right]
    passing = [
        number
        for number in ordered[config.skip : config.depth]
        if scores[number] <= config.most * best
    ]
    return passing[: config.negatives]


def _right(rows: Sequence[PairRow], texts: Sequence[str]) -> dict[str, set[int]]:
    """For each text of a row, the numbers of the positives it stands in a row with."""
    numbers = {text: number for number, text in enumerate(texts)}
    asked: dict[str, set[int]] = {}
    for row in rows:
        asked.setdefault(row.query, set()).add(numbers[row.positive])
    found = {query: set(right) for query, right in asked.items()}
    for row in rows:  # two queries of one positive share what is right
        found.setdefault(row.positive, set()).update(asked[row.query])
    return found


def _as_json(row: PairRow, negatives: list[str]) -> dict[str, Any]:
    keys = ("zh", "en") if row.parallel else ("query", "positive")
    value: dict[str, Any] = {keys[0]: row.query, keys[1]: row.positive, "source": row.source}
    return {**value, "negatives": negatives} if negatives else value
