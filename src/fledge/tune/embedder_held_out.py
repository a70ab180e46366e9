"""An embedder and held-out pairs in; how well it finds the one by the other out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.metrics.intervals import bootstrap
from fledge.tune.embedder_rows import PairRow, by_source

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

DEPTH = 10
MEASURED = 1000
"""Pairs of a source that are read, at most: each is looked for among the others."""


def retrieval_ranks(embed: Embed, rows: Sequence[PairRow]) -> list[int]:
    """Rank, from 1, of each query's positive among all positives; ties count against it."""
    passages = list(dict.fromkeys(row.positive for row in rows))
    places = {passage: number for number, passage in enumerate(passages)}
    wanted = np.array([places[row.positive] for row in rows])
    table = embed(passages)
    ranks: list[int] = []
    for start in range(0, len(rows), MEASURED):
        part = rows[start : start + MEASURED]
        scores = embed([row.query for row in part]) @ table.T  # (N,P)
        own = scores[np.arange(len(part)), wanted[start : start + MEASURED]]
        ranks += (scores >= own[:, None]).sum(axis=1).tolist()
    return ranks


def rank_figures(ranks: Sequence[int]) -> dict[str, float]:
    """``hit1``, ``hit10`` and ``mrr`` (reciprocal rank, 0 beyond 10)."""
    return {
        "hit1": float(np.mean([rank == 1 for rank in ranks])),
        "hit10": float(np.mean([rank <= DEPTH for rank in ranks])),
        "mrr": float(np.mean(reciprocal(ranks))),
    }


def reciprocal(ranks: Sequence[int]) -> list[float]:
    """1 / rank, 0 beyond ``DEPTH``."""
    return [1 / rank if rank <= DEPTH else 0.0 for rank in ranks]


def source_reports(embed: Embed, rows: Sequence[PairRow]) -> Iterator[dict[str, Any]]:
    """Figures of each source with the 95 % bootstrap interval of the MRR, all its rows read."""
    for name, items in by_source(rows).items():
        mine = [rows[item] for item in items]
        ranks = retrieval_ranks(embed, mine)
        yield {
            "source": name,
            "queries": len(mine),
            "passages": len({row.positive for row in mine}),
            **rank_figures(ranks),
            "mrr_ci95": list(bootstrap(reciprocal(ranks))),
        }


def held_out_figures(embed: Embed, rows: Sequence[PairRow]) -> dict[str, float]:
    """Figures of each source (``<source>.mrr``, …) and their means over the sources.

    Of a source at most ``MEASURED`` rows are read, each looked for among the others.
    """
    found: dict[str, dict[str, float]] = {}
    for name, items in by_source(rows).items():
        found[name] = rank_figures(retrieval_ranks(embed, [rows[n] for n in items[:MEASURED]]))
    if not found:
        return {}
    names = ("hit1", "hit10", "mrr")
    figures = {name: float(np.mean([of[name] for of in found.values()])) for name in names}
    for source, of in found.items():
        figures |= {f"{source}.{name}": value for name, value in of.items()}
    return figures
