"""Retrieval, refusals and citations on public question sets, ours beside BM25 and an embedder.

    python benchmarks/retrieval.py quality --out DIR [--embedder SPEC]... [--limit N]
    python benchmarks/retrieval.py support --out DIR [--embedder SPEC] [--write]
    python benchmarks/retrieval.py exactness --out DIR [--answers 5000]
    python benchmarks/retrieval.py files --out DIR [--limit N]

``--corpus english|chinese|cranfield`` takes one of them; an index in DIR is used again.

Data from $FLEDGE_DATA.  Two corpora, so that a search is not trivial: English (XQuAD-en paragraphs,
COVID-QA papers, PubMedQA abstracts) and Chinese (XQuAD-zh, CMRC 2018, DRCD paragraphs); Cranfield
is a corpus of its own.  A question of COVID-QA is answered by a chunk that holds the answer, of the
other sets by the paragraph it was written for.  Intervals redraw articles.

``support`` fits on half of the documents and tells the other half's operating points: questions as
they are, and with every chunk taken away that holds some of the answer (of COVID-QA also with the
whole paper taken away).  ``--write`` fits on all and replaces src/fledge/rag/support.json.
``exactness`` answers questions of all sets by all strategies that need no model and compares every
citation with its document.  ``files`` writes a corpus and N of its questions, of all its sets in
turn, as ``fledge rag compare`` takes them: DIR/texts/NAME and DIR/NAME.jsonl.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import zstandard

from fledge.index.config import IndexConfig
from fledge.index.embed import open_embedder
from fledge.index.folder import build_index
from fledge.index.store.protocol import Snapshot
from fledge.metrics.intervals import clustered
from fledge.metrics.ranking import Ranking, ranking_figures
from fledge.rag.answer import AnswerConfig, Answerer
from fledge.rag.calibration import Weighed, weigh
from fledge.rag.grounding import Grounding, opened
from fledge.rag.hidden import Hidden
from fledge.rag.measuring import measure
from fledge.rag.questions import Labelled
from fledge.rag.retrieve import Retriever
from fledge.rag.strategies import STRATEGIES, config_of, strategy
from fledge.rag.support import SupportModel, fit, operating_curve

DEPTH = 10
SYSTEMS = ("lexical", "dense", "rrf", "hybrid", "default")
SUPPORT = Path(__file__).parent.parent / "src" / "fledge" / "rag" / "support.json"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question: documents that answer it with their gains, or a span of one document."""

    text: str
    gains: dict[str, float]
    label: Labelled
    cluster: str


@dataclass(kw_only=True)
class Corpus:
    """Files by their path, and questions by set."""

    files: dict[str, str] = field(default_factory=dict)
    sets: dict[str, list[Asked]] = field(default_factory=dict)
    size: int = 200

    def ask(self, name: str, path: str, text: str, spans: Sequence[tuple[int, int]],
            answers: Sequence[str], cluster: str) -> None:  # fmt: skip
        label = Labelled(
            question=text, document=path, spans=tuple(spans), answers=tuple(dict.fromkeys(answers))
        )
        one = Asked(text=text, gains={path: 1.0}, label=label, cluster=cluster)
        self.sets.setdefault(name, []).append(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("quality", "support", "exactness", "files"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--embedder", action="append")
    parser.add_argument("--corpus", action="append", choices=tuple(CORPORA), help="default: all")
    parser.add_argument("--limit", type=int, default=1500, help="questions of a set")
    parser.add_argument("--answers", type=int, default=5000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.corpus = asked.corpus or list(CORPORA)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.what == "files":
        for name in asked.corpus:
            as_files(name, CORPORA[name](), asked.out, asked.limit)
        return
    done: list[dict[str, Any]] = []
    for spec in asked.embedder or ["none"]:
        done += {"quality": quality, "support": support, "exactness": exactness}[asked.what](
            asked, spec
        )
    (asked.out / f"{asked.what}.json").write_text(json.dumps(done, indent=1), "utf-8")


# ---- data


def records(name: str) -> list[dict[str, Any]]:
    path = Path(os.environ["FLEDGE_DATA"]) / name
    with path.open("rb") as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def spans_of(answers: Sequence[dict[str, Any]], text: str) -> list[tuple[int, int]]:
    """Where the answers stand, for those that do stand there."""
    found = []
    for one in answers:
        start, words = int(one["answer_start"]), str(one["text"])
        if text[start : start + len(words)] == words and words:
            found.append((start, start + len(words)))
    return list(dict.fromkeys(found))


def squad(corpus: Corpus, name: str, path: str, text: str, cluster: str,
          questions: Sequence[dict[str, Any]]) -> None:  # fmt: skip
    corpus.files[path] = text
    for one in questions:
        words = [str(answer["text"]) for answer in one["answers"]]
        corpus.ask(name, path, one["question"], spans_of(one["answers"], text), words, cluster)


def xquad(corpus: Corpus, language: str) -> None:
    for row in records("xquad_en_zh/xquad.jsonl.zst"):
        if row["lang"] == language:
            path = f"xquad_{language}/{row['article']}-{row['paragraph']}.txt"
            cluster = f"xquad {row['article']}"
            squad(corpus, f"xquad_{language}", path, row["context"], cluster, row["qas"])


def english() -> Corpus:
    corpus = Corpus()
    xquad(corpus, "en")
    for place, row in enumerate(records("covid_qa/covid_qa.jsonl.zst")):
        for part in row["paragraphs"]:
            path = f"covid_qa/{place}.txt"
            squad(corpus, "covid_qa", path, part["context"], path, part["qas"])
    for row in records("pubmedqa_labeled/pqal.jsonl.zst"):
        path, text = f"pubmedqa/{row['pmid']}.txt", "\n\n".join(row["CONTEXTS"])
        corpus.files[path] = text
        corpus.ask("pubmedqa", path, row["QUESTION"], [(0, len(text))], [], path)
    return corpus


def chinese() -> Corpus:
    corpus = Corpus()
    xquad(corpus, "zh")
    for article in records("drcd/dev.jsonl.zst"):
        for part in article["paragraphs"]:
            path = f"drcd/{part['id']}.txt"
            squad(corpus, "drcd", path, part["context"], f"drcd {article['id']}", part["qas"])
    for name in ("dev", "trial"):
        for row in records(f"cmrc2018/{name}.jsonl.zst"):
            path, text = f"cmrc2018/{row['context_id']}.txt", row["context_text"]
            corpus.files[path] = text
            for one in row["qas"]:
                words = [str(a["text"] if isinstance(a, dict) else a) for a in one["answers"]]
                starts = [(text.find(word), len(word)) for word in words if word]
                spans = [(at, at + size) for at, size in starts if at >= 0]
                corpus.ask("cmrc2018", path, one["query_text"], spans, words, path)
    return corpus


def cranfield() -> Corpus:
    path = Path(os.environ["FLEDGE_DATA"]) / "cranfield" / "cranfield.tar.zst"
    with path.open("rb") as packed:
        plain = io.BytesIO(zstandard.ZstdDecompressor().stream_reader(packed).read())
    with tarfile.open(fileobj=plain) as tar:
        text = {
            member.name.split("/")[-1]: handle.read().decode("latin-1").replace("\r", "")
            for member in tar.getmembers()
            if (handle := tar.extractfile(member)) is not None
        }
    corpus = Corpus(size=5000)
    for record in re.split(r"^\.I ", text["cran.all.1400"], flags=re.M)[1:]:
        number = record.split("\n", 1)[0].strip()
        title = record.split(".T\n", 1)[1].split(".A\n", 1)[0]
        body = record.split(".W\n", 1)[1] if ".W\n" in record else ""
        corpus.files[f"{number}.txt"] = body.strip() or title.strip() or "-"
    gains: dict[int, dict[str, float]] = {}
    for line in text["cranqrel"].splitlines():
        parts = line.split()
        if len(parts) == 3:
            # All judged documents count alike: -1 stands once a query, and marks the best match.
            gains.setdefault(int(parts[0]), {})[f"{parts[1]}.txt"] = 1.0
    queries = re.split(r"^\.I ", text["cran.qry"], flags=re.M)[1:]
    for number, record in enumerate(queries, 1):
        query = record.split(".W\n", 1)[1].strip()
        label = Labelled(question=query)
        corpus.sets.setdefault("cranfield", []).append(
            Asked(text=query, gains=gains.get(number, {}), label=label, cluster=query)
        )
    return corpus


CORPORA: dict[str, Callable[[], Corpus]] = {
    "english": english, "chinese": chinese, "cranfield": cranfield,
}  # fmt: skip


def texts_of(name: str, corpus: Corpus, out: Path) -> Path:
    """The folder with a corpus as files; written once."""
    texts = out / "texts" / name
    for path, text in corpus.files.items():
        file = texts / path
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="")
    return texts


def as_files(name: str, corpus: Corpus, out: Path, limit: int) -> None:
    """A corpus and ``limit`` of its questions, drawn from its sets in turn, as files."""
    texts_of(name, corpus, out)
    drawn = [random.Random(0).sample(asked, len(asked)) for asked in corpus.sets.values()]
    turns = [one for several in zip_longest(*drawn) for one in several if one is not None]
    rows = [
        {
            "question": one.text,
            "document": f"{name}/{one.label.document}",
            "spans": one.label.spans,
        }
        for one in turns[:limit]
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (out / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def built(
    name: str, corpus: Corpus, spec: str, out: Path, size: int, outer: int | None = None
) -> Path:
    """The index of a corpus; made once.  ``outer``: tokens of larger chunks around the chunks."""
    texts = texts_of(name, corpus, out)
    folder = out / f"{name}-{spec.replace('/', '_')}-{size}{'-hierarchical' if outer else ''}"
    cut = {"strategy": "hierarchical", "sizes": [outer, size]} if outer else {"size": size}
    config = IndexConfig.model_validate({"input": [str(texts)], "embedder": spec, "split": cut})
    embedder = open_embedder(spec)
    try:
        report = build_index(config, folder, embedder)
    finally:
        embedder.close()
    print(f"{folder}: {report.sizes}", file=sys.stderr, flush=True)
    return folder


def renamed(corpus: Corpus, snapshot: Snapshot) -> dict[str, str]:
    """Our paths -> ids in the index; says how many texts came back otherwise."""
    ids = {}
    changed = 0
    for known in snapshot.known():
        path = next(p for p in (known.id, known.path) if any(p.endswith(f) for f in (".txt",)))
        own = path if path in corpus.files else "/".join(path.split("/")[-2:])
        own = own if own in corpus.files else path.split("/")[-1]
        ids[own] = known.id
        document = snapshot.document(known.id)
        changed += document is None or document.text != corpus.files[own]
    if changed:
        print(f"{changed} texts came back otherwise than they were written", file=sys.stderr)
    return ids


def labelled(one: Asked, ids: dict[str, str]) -> Labelled:
    return replace(one.label, document=ids.get(one.label.document, one.label.document))


# ---- quality


def quality(asked: argparse.Namespace, spec: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    loaded = {name: make() for name, make in CORPORA.items()}
    cross = {"english": ("xquad_zh", "chinese"), "chinese": ("xquad_en", "english")}
    for name in asked.corpus:
        corpus = loaded[name]
        size = corpus.size if name == "cranfield" else 200 if name == "english" else 1000
        folder = built(name, corpus, spec, asked.out, size)
        with opened(folder) as ground, ground.store.snapshot() as snapshot:
            ids = renamed(corpus, snapshot)
            for set_name, questions in corpus.sets.items():
                chosen = questions[: asked.limit]
                rows += compared(set_name, chosen, ids, ground, snapshot, spec)
            if name in cross and spec != "none":
                other, source = cross[name]
                theirs = [crossed(one, name) for one in loaded[source].sets[other]]
                theirs = theirs[: asked.limit]
                rows += compared(f"{other} -> {name}", theirs, ids, ground, snapshot, spec)
    return rows


def crossed(one: Asked, corpus: str) -> Asked:
    """The question asked of the parallel paragraph in the other language."""
    target = "en" if corpus == "english" else "zh"
    path = f"xquad_{target}/{one.label.document.split('/')[-1]}"
    label = Labelled(question=one.text, document=path)
    return replace(one, gains={path: 1.0}, label=label)


def compared(
    name: str, questions: Sequence[Asked], ids: dict[str, str], ground: Grounding,
    snapshot: Snapshot, spec: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each system: figures, and how far ours is above BM25 and the embedder alone."""
    hits: dict[str, list[float]] = {}
    rows = []
    clusters = [one.cluster for one in questions]
    for system in SYSTEMS:
        if STRATEGIES[system].embedder and spec == "none":
            continue
        retriever = ground.retriever(config_of(strategy(system), k=4 * DEPTH, window=0))
        rankings = [ranked(one, ids, retriever, snapshot) for one in questions]
        figures = ranking_figures(rankings)
        hits[system] = [float(bool(r.ranked) and r.ranked[0] in r.gains) for r in rankings]
        row = {"set": name, "embedder": spec, "system": system, "questions": len(rankings)}
        row |= {key: [round(x, 4) for x in (f.value, f.low, f.high)] for key, f in figures.items()}
        for other in ("lexical", "dense"):
            if system == "default" and other in hits:
                gaps = [a - b for a, b in zip(hits[system], hits[other], strict=True)]
                row[f"hit@1 above {other}"] = [sum(gaps) / len(gaps), *spread(gaps, clusters)]
        rows.append(row)
        shown = "  ".join(
            f"{key} {row[key][0]:.3f} [{row[key][1]:.3f}, {row[key][2]:.3f}]"
            for key in ("hit@1", "hit@10", "mrr@10", "ndcg@10")
        )
        print(f"{name:<22} {spec:<10} {system:<8} n={len(rankings):<5} {shown}", flush=True)
    return rows


def spread(gaps: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of a mean difference, clusters redrawn."""
    groups: dict[str, list[float]] = {}
    for gap, cluster in zip(gaps, clusters, strict=True):
        groups.setdefault(cluster, []).append(gap)
    if not any(gaps):
        return 0.0, 0.0
    halves = [sum((g + 1) / 2 for g in group) for group in groups.values()]
    low, high = clustered(halves, [len(group) for group in groups.values()])
    return 2 * low - 1, 2 * high - 1


def ranked(one: Asked, ids: dict[str, str], retriever: Retriever, snapshot: Snapshot) -> Ranking:
    """Documents in the order found, each once; for COVID-QA, chunks that hold the answer."""
    passages = retriever.retrieve(snapshot, one.text).passages
    if one.label.document.startswith("covid_qa/"):
        label = labelled(one, ids)
        right = [label.answered_by(passage) for passage in passages[:DEPTH]]
        order = [f"right {i}" if hit else f"wrong {i}" for i, hit in enumerate(right)]
        first = next((name for name in order if name.startswith("right")), "right")
        return Ranking(ranked=order, gains={first: 1.0}, cluster=one.cluster)
    gains = {ids.get(path, path): gain for path, gain in one.gains.items()}
    order = list(dict.fromkeys(passage.span.document for passage in passages))[:DEPTH]
    return Ranking(ranked=order, gains=gains, cluster=one.cluster)


# ---- support


def support(asked: argparse.Namespace, spec: str) -> list[dict[str, Any]]:
    """Fits and tells; the sets of a language have one model."""
    rows: dict[str, list[tuple[str, Weighed]]] = {}
    for name in (n for n in asked.corpus if n != "cranfield"):
        corpus = CORPORA[name]()
        with opened(built(name, corpus, spec, asked.out, 200)) as ground:
            answerer = Answerer(ground.retriever(), AnswerConfig(threshold=0.0))
            with ground.store.snapshot() as snapshot:
                ids = renamed(corpus, snapshot)
                for set_name, questions in corpus.sets.items():
                    chosen = sorted(questions, key=lambda q: zlib.crc32(q.text.encode()))
                    labels = [labelled(q, ids) for q in chosen[: asked.limit]]
                    for row in weigh(answerer, snapshot, labels):
                        rows.setdefault(row.kind, []).append((set_name, row))
                    if set_name == "covid_qa":
                        for row in without_document(answerer, snapshot, labels):
                            rows.setdefault(row.kind, []).append(("covid_qa paper gone", row))
                    print(f"{set_name} measured", file=sys.stderr, flush=True)
    return fitted(asked, rows)


def without_document(
    answerer: Answerer, snapshot: Snapshot, labels: Sequence[Labelled]
) -> Iterator[Weighed]:
    """The questions with the whole paper gone; present ones as they are."""
    for one in labels:
        gone = snapshot.of_document(one.document)
        hidden = replace(one, answerable=False)
        yield from weigh(answerer, Hidden(snapshot, gone), [hidden])


def fitted(
    asked: argparse.Namespace, rows: dict[str, list[tuple[str, Weighed]]]
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    shipped = json.loads(SUPPORT.read_text("utf-8"))
    for kind, own in rows.items():
        seen = [(name, r) for name, r in own if fits(name) and not r.missed]
        model = fit([(r.measures, r.answered) for _, r in seen if first_half(r)])
        for name in dict.fromkeys(name for name, _ in own):
            others = [r for n, r in own if n == name and not first_half(r)]
            if not fits(name):
                there = [r for n, r in own if n == "covid_qa" and r.answered]
                others += [r for r in there if not first_half(r)]
            if len({r.answered for r in others}) == 2:
                told.append(points(kind, name, model, others))
        shipped[kind] = fit([(r.measures, r.answered) for _, r in seen]).to_json()
    if asked.write:
        SUPPORT.write_text(json.dumps(shipped, indent=1) + "\n", "utf-8")
    return told


def fits(name: str) -> bool:
    """The second kind of absence is only told of."""
    return name != "covid_qa paper gone"


def first_half(row: Weighed) -> bool:
    """Documents of one article (the part of the name before the paragraph) stay together."""
    name = re.sub(r"-\d+\.txt$", "", row.question.document)
    return zlib.crc32(name.encode()) % 2 == 0


def points(kind: str, name: str, model: SupportModel, rows: Sequence[Weighed]) -> dict[str, Any]:
    """At the threshold that was fitted, and the set's own curve; ``all``: with questions whose
    answer is in the documents and was not found, which are refused rightly and count as wrong."""
    there = [(model.probability(r.measures), r.missed) for r in rows if r.answered]
    absent = [model.probability(r.measures) for r in rows if not r.answered]
    present = [p for p, missed in there if not missed]
    wrong = sum(p < model.threshold for p in present) / len(present)
    wrong_all = sum(p < model.threshold for p, _ in there) / len(there)
    right = sum(p < model.threshold for p in absent) / len(absent)
    curve = [vars(one) for one in operating_curve(present, absent)]
    curve_all = [vars(one) for one in operating_curve([p for p, _ in there], absent)]
    shown = ["  ".join(f"{one['right_refusals']:.2f} at {one['wrong_refusals']:.2f}" for one in c)
             for c in (curve, curve_all)]  # fmt: skip
    print(
        f"{kind:<12} {name:<20} n={len(present)}+{len(absent)}  threshold {model.threshold:.2f}:"
        f" refuses {right:.3f} of what is not there, {wrong:.3f} of what is and was found,"
        f" {wrong_all:.3f} of what is\n    found: {shown[0]}\n    all:   {shown[1]}",
        flush=True,
    )
    told = {"kind": kind, "set": name, "right": right, "wrong": wrong, "wrong_all": wrong_all}
    return {**told, "curve": curve, "curve_all": curve_all}


# ---- exactness


def exactness(asked: argparse.Namespace, spec: str) -> list[dict[str, Any]]:
    """Answers by all strategies without a model over all sets; every citation is compared."""
    names = [n for n, one in STRATEGIES.items() if not one.model]
    names = [n for n in names if spec != "none" or not STRATEGIES[n].embedder]
    told: list[dict[str, Any]] = []
    shown = exact = answered = 0
    for name in (n for n in asked.corpus if n != "cranfield"):
        corpus = CORPORA[name]()
        each = max(1, asked.answers // (2 * len(names) * len(corpus.sets)) + 1)
        for outer in (None, 800):
            group = [n for n in names if STRATEGIES[n].hierarchical == bool(outer)]
            folder = built(name, corpus, spec, asked.out, 200, outer)
            with opened(folder) as ground, ground.store.snapshot() as snapshot:
                for strategy_name in group:
                    config = config_of(strategy(strategy_name), k=5, window=2)
                    answerer = ground.answerer(config, AnswerConfig(threshold=0.0))
                    for set_name, questions in corpus.sets.items():
                        labels = [one.label for one in questions[:each]]
                        found = measure(answerer, snapshot, labels)
                        shown += found.shown
                        exact += found.exact
                        answered += found.questions
                        row = {"strategy": strategy_name, "set": set_name}
                        row |= {"answers": found.questions, **found.to_json()["citations"]}
                        told.append(row)
    print(f"{answered:,} answers, {shown:,} citations shown, {exact:,} exact", flush=True)
    return [*told, {"answers": answered, "shown": shown, "exact": exact}]


if __name__ == "__main__":
    main()
