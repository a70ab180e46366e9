"""An index and sets of questions in, what it answers out: right, declined, and truly quoted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fledge.core.files import write_json, write_jsonl
from fledge.core.protocols import Progress
from fledge.evals.dataset import Sample
from fledge.evals.solvers import Advance, Answer, Solver
from fledge.evals.tasks import Row, figures_of, load_task, run_task
from fledge.rag import answered
from fledge.rag.answer import AnswerConfig
from fledge.rag.grounding import Grounding

ASKED = ("facts_en", "facts_zh_hans", "facts_zh_hant", "unanswerable")
"""Sets of the ladder that documents can answer, or cannot."""


def measure_grounding(
    ground: Grounding,
    sets: Path,
    out: Path,
    progress: Progress,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of the answers that are quoted from the index, each set's rows in ``out``.

    No model takes part.  ``citations_exact`` is the share of citations whose quotation is the
    document's text at its place.
    """
    citations: list[bool] = []
    summary: dict[str, Any] = {}
    rows_of: dict[str, list[Row]] = {}
    for path in (sets / f"{name}.jsonl" for name in ASKED):
        if path.is_file():
            task = load_task(path, limit=limit, seed=seed)
            solver = _solver(ground, citations)
            rows_of[task.name] = run_task(task, solver, progress, f"ground: {task.name}")
            write_jsonl(out / f"{task.name}.jsonl", rows_of[task.name])
            summary[task.name] = figures_of(rows_of[task.name], seed)
    write_json(out / "summary.json", {"tasks": summary, "citations": len(citations)})
    return _figures(rows_of, citations)


def _solver(ground: Grounding, citations: list[bool]) -> Solver:
    """Asks the index; whether each citation holds is noted in ``citations``."""
    answerer = ground.answerer(config=AnswerConfig(sentences=1))  # a value and no other

    def solve(samples: Sequence[Sample], advance: Advance) -> list[Answer]:
        found = []
        with ground.store.snapshot() as snapshot:
            for sample in samples:
                answer = answerer.answer(snapshot, sample.question)
                citations.extend(one.holds(snapshot) for one in answer.citations)
                found.append(Answer(text=_plain(answer), tokens=0, finish_reason="stop"))
                advance(1)
        return found

    return solve


def _plain(answer: answered.Answer) -> str:
    """What is said, without the markers of its citations: [1] is no number of the answer."""
    text = answer.text
    for citation in answer.citations:
        text = text.replace(citation.marker, "")
    return text.strip()


def _figures(rows_of: dict[str, list[Row]], citations: Sequence[bool]) -> dict[str, float]:
    def share(key: str, names: Callable[[str], bool]) -> float | None:
        rows = [row for name, rows in rows_of.items() if names(name) for row in rows]
        return sum(bool(row[key]) for row in rows) / len(rows) if rows else None

    chinese = [share("correct", name.__eq__) for name in ("facts_zh_hans", "facts_zh_hant")]
    found = {
        "facts_en": share("correct", "facts_en".__eq__),
        "facts_zh": min((one for one in chinese if one is not None), default=None),
        "unanswerable": share("correct", "unanswerable".__eq__),
        "over_refusal": share("declined", "unanswerable".__ne__),
        "citations_exact": sum(citations) / len(citations) if citations else None,
    }
    return {f"ground.{name}": value for name, value in found.items() if value is not None}
