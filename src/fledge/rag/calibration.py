"""Labelled questions in, an index's own weights and thresholds out, kept beside the index."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fledge.core.config import parse_config
from fledge.core.files import read_json, write_json
from fledge.index.store.protocol import Snapshot
from fledge.metrics.ranking import reciprocal_rank
from fledge.rag.answer import Answerer
from fledge.rag.hidden import Hidden
from fledge.rag.language import Language, prompt_language
from fledge.rag.passage import Passage, Query
from fledge.rag.questions import Labelled
from fledge.rag.retrieval_config import FusionConfig, LegWeights
from fledge.rag.retrieve import Retriever
from fledge.rag.support import SupportModel, fit, models_from
from fledge.rag.tools import Tools

FILE = "calibration.json"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
"""Weights of the dense search that are tried; the lexical one has the rest."""
LEAST = 30
"""Questions in a language below which its weights stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted on an index."""

    weights: dict[Language, LegWeights] = field(default_factory=dict)
    support: dict[str, SupportModel] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it beside the index; another build of the index leaves it there."""
        weights = {name: one.model_dump() for name, one in self.weights.items()}
        support = {name: one.to_json() for name, one in self.support.items()}
        write_json(folder / FILE, {"weights": weights, "support": support})


def read_calibration(folder: Path) -> Calibration:
    """What lies beside an index; empty when nothing does."""
    path = folder / FILE
    if not path.is_file():
        return Calibration()
    told: dict[str, Any] = read_json(path)
    fusion = parse_config(FusionConfig, {"weights": told.get("weights", {})}, str(path))
    return Calibration(weights=fusion.weights, support=models_from(told.get("support", {})))


def calibrate_fusion(
    retriever: Retriever,
    snapshot: Snapshot,
    questions: Sequence[Labelled],
    *,
    each: Callable[[], None] = lambda: None,
) -> dict[Language, LegWeights]:
    """For each language with enough questions, the weights of the largest mean reciprocal rank.

    Of equal ones the one nearest .35 for the dense search is taken.
    """
    ranks: dict[Language, dict[float, list[float]]] = {}
    for one in questions:
        if not one.answerable:
            continue
        language = prompt_language(one.question)
        for share in SHARES:
            weights = LegWeights(dense=share, lexical=1 - share)
            changed = retriever.with_weights({language: weights})
            passages = changed.retrieve(snapshot, one.question).passages
            right = [i for i, passage in enumerate(passages) if one.answered_by(passage)]
            rank = reciprocal_rank(range(len(passages)), right)
            ranks.setdefault(language, {}).setdefault(share, []).append(rank)
        each()
    return {
        language: _best(by_share)
        for language, by_share in ranks.items()
        if len(by_share[SHARES[0]]) >= LEAST
    }


def _best(by_share: dict[float, list[float]]) -> LegWeights:
    means = {share: sum(ranks) / len(ranks) for share, ranks in by_share.items()}
    share = max(means, key=lambda one: (round(means[one], 6), -abs(one - 0.35)))
    return LegWeights(dense=share, lexical=1 - share)


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A question's measures with its passage there, or gone."""

    question: Labelled
    answered: bool
    measures: dict[str, float]
    kind: str
    """ "language" or "language:embedder": which support model it is for."""
    missed: bool = False
    """The answer is in the documents and was not found: nothing to fit on."""


def weigh(
    answerer: Answerer,
    snapshot: Snapshot,
    questions: Sequence[Labelled],
    *,
    each: Callable[[], None] = lambda: None,
) -> list[Weighed]:
    """Measures of evidence for each question as it is and, where it has an answer, with every
    chunk taken away that holds some of it.

    Those whose answer is there and is not among the passages are marked as missed.
    """
    rows: list[Weighed] = []
    for one in questions:
        passages, measures, kind = _looked(answerer, snapshot, one)
        found = any(one.answered_by(passage) for passage in passages)
        rows.append(
            Weighed(
                question=one,
                answered=one.answerable,
                measures=measures,
                kind=kind,
                missed=one.answerable and not found,
            )
        )
        if one.answerable:
            hidden = Hidden(snapshot, holding(snapshot, one))
            _, measures, kind = _looked(answerer, hidden, one)
            rows.append(Weighed(question=one, answered=False, measures=measures, kind=kind))
        each()
    return rows


def _looked(
    answerer: Answerer, snapshot: Snapshot, one: Labelled
) -> tuple[tuple[Passage, ...], dict[str, float], str]:
    retriever = answerer.retriever
    tools = Tools(
        snapshot=snapshot,
        embedder=retriever.embedder,
        model=retriever.model,
        reranker=retriever.reranker,
    )
    passages = retriever.run(Query(text=one.question), tools).passages
    measures, kind = answerer.measures(one.question, passages, tools)
    return passages, measures, kind


def holding(snapshot: Snapshot, one: Labelled) -> list[int]:
    """The chunks of level 0 that hold any of the answer."""
    ids = [one.document]
    if not one.document or snapshot.document(one.document) is None:
        ids = [k.id for k in snapshot.known() if one.document in ("", k.path)]
    numbers = [number for id in ids for number in snapshot.of_document(id)]
    found = snapshot.chunks(numbers)
    return [
        chunk.chunk
        for chunk in found
        if one.touched_by(Passage(span=chunk.span, text=chunk.text, path=chunk.path, score=0.0))
    ]


def calibrate_support(rows: Sequence[Weighed]) -> dict[str, SupportModel]:
    """A model for each kind with enough rows of both sorts."""
    kinds = sorted({row.kind for row in rows})
    found = {}
    for kind in kinds:
        own = [(r.measures, r.answered) for r in rows if r.kind == kind and not r.missed]
        answered = sum(answer for _, answer in own)
        if min(answered, len(own) - answered) >= LEAST:
            found[kind] = fit(own)
    return found


def halves(rows: Sequence[Weighed]) -> tuple[list[Weighed], list[Weighed]]:
    """Rows in two parts by their document (else their question): nothing is in both."""

    def first(row: Weighed) -> bool:
        return zlib.crc32((row.question.document or row.question.question).encode()) % 2 == 0

    return [row for row in rows if first(row)], [row for row in rows if not first(row)]
