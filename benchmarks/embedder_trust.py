"""How good an embedder must be before it may join a lexical search.

    FLEDGE_DATA=… python benchmarks/embedder_trust.py [--embedder minilm]

Its vectors of English questions are blurred more and more.  Each line: its mean reciprocal rank,
and what reciprocal-rank fusion (0.7 lexical, 0.3 dense times that rank) makes of BM25's figure:
hit@1 on XQuAD, nDCG@10 on Cranfield.  Quality only: it takes no times.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from retrieval_terms import Bm25, Task, tasks

from fledge.index.embed import default_cache, open_embedder
from fledge.index.terms import terms

DEPTH = 50
BLUR = (0.0, 0.6, 1.3, 1.7, 2.5, 3.5, 5.0)
"""Length of the random vector that is added to each question's, whose own is 1."""
LEXICAL, DENSE = 0.7, 0.3


def fused(one: Sequence[int], other: Sequence[int], weight: float, k: int) -> list[int]:
    """Places of two lists as one list (Cormack et al., SIGIR 2009), the second of this weight."""
    scores: dict[int, float] = defaultdict(float)
    for share, ranked in ((LEXICAL, one), (DENSE * weight, other)):
        for place, number in enumerate(ranked, 1):
            scores[number] += share / (k + place)
    return sorted(scores, key=lambda number: (-scores[number], number))


def figure(task: Task, ranked: Sequence[Sequence[int]]) -> float:
    """hit@1; for Cranfield, whose questions have several answers, nDCG@10."""
    total = 0.0
    for numbers, answers in zip(ranked, task.answers, strict=True):
        if task.name != "cranfield":
            total += bool(numbers) and numbers[0] in answers
            continue
        gain = sum((n in answers) / np.log2(place + 2) for place, n in enumerate(numbers[:10]))
        total += gain / sum(1 / np.log2(place + 2) for place in range(min(10, len(answers))))
    return total / len(ranked)


def reciprocal_rank(task: Task, ranked: Sequence[Sequence[int]]) -> float:
    """Mean over the questions, up to place 10."""
    firsts = (
        next((1 / place for place, n in enumerate(numbers[:10], 1) if n in answers), 0.0)
        for numbers, answers in zip(ranked, task.answers, strict=True)
    )
    return sum(firsts) / len(ranked)


def main() -> None:
    """Print a line for each set and blur."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="minilm")
    embedder = open_embedder(parser.parse_args().embedder, cache=default_cache())
    for task in tasks(Path(os.environ["FLEDGE_DATA"])):
        if task.name not in ("xquad-en", "cranfield"):
            continue
        index = Bm25(task.passages, terms)
        lexical = [index.best(question, DEPTH) for question in task.questions]
        stored, asked = embedder.embed(task.passages), embedder.embed_queries(task.questions)
        noise = np.random.default_rng(0).normal(size=asked.shape) / np.sqrt(asked.shape[1])
        for blur in BLUR:
            scores = (asked + blur * noise) @ stored.T
            dense = [[int(n) for n in np.argsort(-row, kind="stable")[:DEPTH]] for row in scores]
            rank = reciprocal_rank(task, dense)
            row = {"set": task.name, "lexical": figure(task, lexical), "dense MRR@10": rank}
            for k in (60, 10):
                pairs = zip(lexical, dense, strict=True)
                row[f"k={k}"] = figure(task, [fused(a, b, rank, k) for a, b in pairs])
            rounded = {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}
            print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
