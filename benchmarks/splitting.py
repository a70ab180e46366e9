"""Where documents are cut, and how often the chunk with the answer is then found.

    FLEDGE_DATA=… python benchmarks/splitting.py [--json]

Questions about whole papers (COVID-QA), BM25 over chunks of all of them.  A chunk counts when it
holds the whole answer in its place.  hit@1, hit@5, MRR@10, and the share of answers that some chunk
holds whole, which bounds them.  Quality only: it takes no times.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

from retrieval_terms import Bm25, read_rows

from fledge.core.types import Document
from fledge.index.loaded import Loaded
from fledge.index.split import SplitConfig, split
from fledge.index.terms import terms


@dataclass(frozen=True)
class Question:
    """``documents[document][start:end]`` answers ``text``."""

    text: str
    document: int
    start: int
    end: int


Place = tuple[int, int, int]
"""Document, start, end."""


def read(path: Path) -> tuple[list[str], list[Question]]:
    """Papers and questions about them; of several answers the first."""
    documents, questions = [], []
    for row in read_rows(path):
        for paper in row["paragraphs"]:
            for asked in paper["qas"]:
                answer = asked["answers"][0]
                start = answer["answer_start"]
                end = start + len(answer["text"])
                questions.append(Question(asked["question"], len(documents), start, end))
            documents.append(paper["context"])
    return documents, questions


def places_of(documents: list[str], config: SplitConfig) -> list[Place]:
    """Chunks of all documents."""
    found = []
    for number, text in enumerate(documents):
        document = Document(id=str(number), text=text)
        chunks = split(Loaded(document=document, path=str(number), kind="plain"), config)
        found += [(number, chunk.start, chunk.end) for chunk in chunks]
    return found


def holds(place: Place, question: Question) -> bool:
    """Whether the whole answer lies in a chunk."""
    number, start, end = place
    return number == question.document and start <= question.start and question.end <= end


def measure(
    documents: list[str], questions: list[Question], config: SplitConfig
) -> dict[str, float]:
    """The four figures, and how many chunks there are."""
    places = places_of(documents, config)
    index = Bm25([documents[number][start:end] for number, start, end in places], terms)
    ranks = []
    for question in questions:
        best = index.best(question.text, 10)
        found = (rank for rank, n in enumerate(best, 1) if holds(places[n], question))
        ranks.append(next(found, 0))
    whole = sum(any(holds(place, question) for place in places) for question in questions)
    return {
        "chunks": len(places),
        "hit@1": sum(rank == 1 for rank in ranks) / len(ranks),
        "hit@5": sum(0 < rank <= 5 for rank in ranks) / len(ranks),
        "MRR@10": sum(1 / rank for rank in ranks if rank) / len(ranks),
        "whole": whole / len(ranks),
    }


def main() -> None:
    """Print a line for each size, strategy and overlap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    documents, questions = read(Path(os.environ["FLEDGE_DATA"]) / "covid_qa/covid_qa.jsonl.zst")
    for size in (100, 200, 400):
        for strategy in ("tokens", "sentence", "recursive"):
            for overlap in (0, size // 8):
                config = SplitConfig.model_validate(
                    {"strategy": strategy, "size": size, "overlap": overlap}
                )
                found = measure(documents, questions, config)
                row = {"size": size, "strategy": strategy, "overlap": overlap}
                row |= {key: round(value, 3) for key, value in found.items()}
                print(json.dumps(row) if as_json else "  ".join(f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
