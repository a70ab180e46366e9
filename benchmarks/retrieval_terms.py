"""What folding, stemming, stop words and the n-grams are worth: BM25 over ``fledge.index.terms``.

    FLEDGE_DATA=… python benchmarks/retrieval_terms.py [--json]

Passage retrieval on the public sets; hit@1, MRR@10 (Cranfield: nDCG@10), 95 % intervals by
bootstrap over the questions.  Quality only: it takes no times.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import opencc
import zstandard

from fledge.index import terms as rules

K1, B = 1.2, 0.75
Terms = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Task:
    """Passages, questions, and for each question the grade of the passages that answer it."""

    name: str
    passages: list[str]
    questions: list[str]
    answers: list[dict[int, int]]


class Bm25:
    """Robertson's BM25 with Lucene's idf, exact, in memory."""

    def __init__(self, texts: Sequence[str], terms: Terms) -> None:
        self.terms = terms
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(texts))
        for number, text in enumerate(texts):
            counts = Counter(terms(text))
            lengths[number] = sum(counts.values())
            for term, count in counts.items():
                postings[term].append((number, count))
        norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        self.size, self.weights = len(texts), {}
        for term, found in postings.items():
            rows, counts = np.array(found).T
            idf = np.log(1 + (self.size - len(rows) + 0.5) / (len(rows) + 0.5))
            self.weights[term] = rows, idf * counts * (K1 + 1) / (counts + norm[rows])

    def best(self, question: str, k: int = 10) -> list[int]:
        """The k best passages, the earlier of equals first; those without a score left out."""
        scores = np.zeros(self.size)
        for term, often in Counter(self.terms(question)).items():
            if term in self.weights:
                rows, weights = self.weights[term]
                scores[rows] += often * weights
        order = np.argsort(-scores, kind="stable")[:k]
        return [int(number) for number in order if scores[number] > 0]


def read_rows(path: Path) -> Iterator[Any]:
    """The records of a compressed JSONL file."""
    with path.open("rb") as handle:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(handle)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)


def _task(name: str, pairs: Sequence[tuple[str, list[str]]]) -> Task:
    """From (passage, its questions); equal passages are one."""
    numbers: dict[str, int] = {}
    questions, answers = [], []
    for passage, asked in pairs:
        number = numbers.setdefault(passage, len(numbers))
        questions += asked
        answers += [{number: 1}] * len(asked)
    return Task(name, list(numbers), questions, answers)


def tasks(data: Path) -> Iterator[Task]:
    """The public sets, each whole."""
    xquad = list(read_rows(data / "xquad_en_zh/xquad.jsonl.zst"))
    for lang in ("en", "zh"):
        rows = [row for row in xquad if row["lang"].startswith(lang)]
        pairs = [(row["context"], [qa["question"] for qa in row["qas"]]) for row in rows]
        yield _task(f"xquad-{lang}", pairs)
    drcd = [p for row in read_rows(data / "drcd/dev.jsonl.zst") for p in row["paragraphs"]]
    traditional = _task("drcd", [(p["context"], [q["question"] for q in p["qas"]]) for p in drcd])
    yield traditional
    simplify = opencc.OpenCC("t2s").convert
    asked = [simplify(question) for question in traditional.questions]
    yield replace(traditional, name="drcd, asked in Simplified", questions=asked)
    cmrc = [
        row for part in ("dev", "trial") for row in read_rows(data / f"cmrc2018/{part}.jsonl.zst")
    ]
    yield _task(
        "cmrc2018", [(r["context_text"], [qa["query_text"] for qa in r["qas"]]) for r in cmrc]
    )
    yield cranfield(data / "cranfield/cranfield.tar.zst")


def cranfield(path: Path) -> Task:
    """1,400 abstracts, 225 questions; every judged pair counts alike, -1 among them.

    The readme tells of grades 1 (a complete answer) to 4.  The one -1 that each question has is
    not explained, and plainly relevant: BM25 finds it first more often than any grade.
    """
    with path.open("rb") as handle:
        raw = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(handle).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        files = {Path(m.name).name: tar.extractfile(m).read().decode() for m in tar if m.isfile()}
    records = re.split(r"^\.I ", files["cran.all.1400"], flags=re.MULTILINE)[1:]
    texts = [_field(record, "T") + "\n" + _field(record, "W") for record in records]
    asked = re.split(r"^\.I ", files["cran.qry"].replace("\r", ""), flags=re.MULTILINE)[1:]
    answers: list[dict[int, int]] = [{} for _ in asked]
    for line in files["cranqrel"].splitlines():
        query, document = (int(part) for part in line.split()[:2])
        answers[query - 1][document - 1] = 1
    return Task("cranfield", texts, [_field(query, "W") for query in asked], answers)


def _field(record: str, name: str) -> str:
    match = re.search(rf"^\.{name}\n(.*?)(?=^\.[A-Z]\n|\Z)", record, re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


@contextmanager
def variant(name: str) -> Iterator[Terms]:
    """``terms`` with one of its rules switched off."""

    class Same:
        def stemWord(self, word: str) -> str:
            return word

    switches: dict[str, dict[str, Any]] = {
        "ours": {},
        "no folding": {"_folding": dict},
        "no stems": {"_stemmer": Same},
        "no stop words": {"STOP_WORDS": frozenset()},
        "bigrams only": {},
        "single characters only": {},
    }
    han = re.compile("[\u3400-\u9fff]+")
    kept: dict[str, Terms] = {
        "bigrams only": lambda text: [t for t in rules.terms(text) if len(t) > 1 or t.isascii()],
        "single characters only": lambda text: [
            t for t in rules.terms(text) if len(t) < 2 or not han.fullmatch(t)
        ],
    }
    rules._of_word.cache_clear()
    with patch.multiple(rules, **switches[name]) if switches[name] else _nothing():
        yield kept.get(name, rules.terms)
    rules._of_word.cache_clear()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


VARIANTS = (
    "ours", "no folding", "no stems", "no stop words", "bigrams only", "single characters only"
)  # fmt: skip


def scores(task: Task, terms: Terms) -> dict[str, np.ndarray]:
    """A number for each question and measure."""
    index = Bm25(task.passages, terms)
    found: dict[str, list[float]] = {"hit@1": [], "MRR@10": [], "nDCG@10": []}
    for question, answers in zip(task.questions, task.answers, strict=True):
        ranks = [place for place, n in enumerate(index.best(question)) if answers.get(n, 0) > 0]
        found["hit@1"].append(float(bool(ranks) and ranks[0] == 0))
        found["MRR@10"].append(1 / (ranks[0] + 1) if ranks else 0.0)
        ideal = sorted((g for g in answers.values() if g > 0), reverse=True)[:10]
        best = index.best(question)
        gain = sum(answers.get(n, 0) / np.log2(place + 2) for place, n in enumerate(best))
        most = sum(grade / np.log2(place + 2) for place, grade in enumerate(ideal))
        found["nDCG@10"].append(gain / most if most else 0.0)
    return {name: np.array(values) for name, values in found.items()}


def interval(values: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """95 % of bootstrapped means."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    """Print a line for each set and variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    for task in tasks(Path(os.environ["FLEDGE_DATA"])):
        measures = ("nDCG@10",) if task.name == "cranfield" else ("hit@1", "MRR@10")
        for name in VARIANTS:
            with variant(name) as terms:
                found = scores(task, terms)
            row = {
                "set": task.name,
                "passages": len(task.passages),
                "questions": len(task.questions),
                "variant": name,
                **{m: round(float(found[m].mean()), 4) for m in measures},
                "ci95": [round(edge, 4) for edge in interval(found[measures[0]])],
            }
            print(json.dumps(row) if as_json else "  ".join(f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
