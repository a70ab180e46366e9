"""Labelled questions and an answerer in, figures out: ranks, answers, citations, time, tokens."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fledge.index.store.protocol import Snapshot
from fledge.metrics.ranking import Figure, figure, hit_at, ndcg_at, reciprocal_rank
from fledge.rag.answer import Answerer
from fledge.rag.answered import Answer
from fledge.rag.prompt import estimate_tokens
from fledge.rag.questions import Labelled


@dataclass(kw_only=True)
class Measured:
    """What one way of answering did to a set of questions."""

    questions: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)
    """By name, one value a question it applies to."""
    clusters: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By step, and "all"."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    context_tokens: int = 0
    """Of the passages, as a model would be shown them."""
    shown: int = 0
    """Citations."""
    exact: int = 0
    """Of them, those whose document has the quoted text at the stated place."""
    notes: dict[str, int] = field(default_factory=dict)

    def figures(self) -> dict[str, Figure]:
        """Means with intervals; questions of one document are redrawn together."""
        return {
            name: figure(values, self.clusters[name])
            for name, values in self.values.items()
            if values
        }

    def percentile(self, step: str, share: float) -> float:
        """Seconds that ``share`` of the questions did not exceed."""
        ordered = sorted(self.seconds.get(step, [0.0]))
        return ordered[min(math.ceil(share * len(ordered)) - 1, len(ordered) - 1)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: quality, latency in milliseconds, tokens a question, citations."""
        count = max(self.questions, 1)
        return {
            "questions": self.questions,
            "quality": {name: vars(one) for name, one in self.figures().items()},
            "milliseconds": {
                step: {
                    "p50": round(1000 * self.percentile(step, 0.5), 3),
                    "p95": round(1000 * self.percentile(step, 0.95), 3),
                }
                for step in self.seconds
            },
            "tokens": {
                "context": self.context_tokens / count,
                "prompt": self.prompt_tokens / count,
                "completion": self.completion_tokens / count,
            },
            "citations": {"shown": self.shown, "exact": self.exact},
            "notes": self.notes,
        }


def measure(
    answerer: Answerer,
    snapshot: Snapshot,
    questions: Sequence[Labelled],
    *,
    each: Callable[[], None] = lambda: None,
) -> Measured:
    """Every question answered and compared with its label; ``each`` is called after each.

    Values: "hit@1", "hit@k", "mrr", "ndcg@10" over the passages of answerable questions;
    "answer": what is said holds the answer (where the label has texts); "declined": unanswerable
    questions rightly refused; "over_refusal": answerable ones wrongly.
    """
    measured = Measured()
    for one in questions:
        answer = answerer.answer(snapshot, one.question)
        _count(measured, one, answer, snapshot)
        each()
    return measured


def _count(measured: Measured, one: Labelled, answer: Answer, snapshot: Snapshot) -> None:
    measured.questions += 1
    cluster = one.document or one.question
    for name, value in _values(one, answer).items():
        measured.values.setdefault(name, []).append(value)
        measured.clusters.setdefault(name, []).append(cluster)
    by_step: dict[str, float] = {}
    for stage in answer.trace:
        by_step[stage.name] = by_step.get(stage.name, 0.0) + stage.seconds
        measured.prompt_tokens += stage.prompt_tokens
        measured.completion_tokens += stage.completion_tokens
        for note in stage.notes:
            kind = f"{stage.name}: {note[:60]}"
            measured.notes[kind] = measured.notes.get(kind, 0) + 1
    by_step["all"] = answer.trace.seconds
    for name, seconds in by_step.items():
        measured.seconds.setdefault(name, []).append(seconds)
    measured.context_tokens += sum(estimate_tokens(p.text) for p in answer.passages)
    for citation in answer.citations:
        document = snapshot.document(citation.span.document)
        measured.shown += 1
        with contextlib.suppress(ValueError):
            measured.exact += (
                document is not None and citation.span.quote(document) == citation.quote
            )


def _values(one: Labelled, answer: Answer) -> dict[str, float]:
    if not one.answerable:
        return {"declined": float(not answer.supported)}
    right = [one.answered_by(passage) for passage in answer.passages]
    ranked = list(range(len(right)))
    relevant = [i for i in ranked if right[i]]
    gains = dict.fromkeys(relevant[:1], 1.0)  # one passage is enough
    values = {
        "hit@1": hit_at(1, ranked, relevant),
        "hit@k": float(bool(relevant)),
        "mrr": reciprocal_rank(ranked, relevant),
        "ndcg@10": ndcg_at(10, ranked, gains),
        "over_refusal": float(not answer.supported),
    }
    if one.answers:
        values["answer"] = float(any(text in answer.text for text in one.answers))
    return values
