"""An index and sets of questions in, what it answers out: right, declined, and truly quoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fledge.core.files import write_json, write_jsonl
from fledge.core.protocols import Progress
from fledge.evals.dataset import Sample
from fledge.evals.solvers import Advance, Answer, Solver, remote_solver
from fledge.evals.tasks import Row, figures_of, load_task, run_task
from fledge.rag import answered
from fledge.rag.answer import AnswerConfig, Answerer
from fledge.rag.grounding import Grounding
from fledge.rag.room import fitted

ASKED = ("facts_en", "facts_zh_hans", "facts_zh_hant", "unanswerable")
"""Sets of the ladder that documents can answer, or cannot."""
MOST_TOKENS = 48
"""Of an answer that a model writes."""

Rows = dict[str, list[Row]]
"""Set -> its rows."""


@dataclass(kw_only=True)
class _Asking:
    """What all sets share."""

    ground: Grounding
    out: Path
    progress: Progress
    limit: int | None
    seed: int
    citations: list[bool] = field(default_factory=list)
    """Of every answer: whether the quotation is the document's text at its place."""
    rows: Rows = field(default_factory=dict)

    def ask(self, path: Path, name: str, solver: Solver) -> None:
        """The questions of a file, answered; the rows go to ``<name>.jsonl``."""
        task = load_task(path, limit=self.limit, seed=self.seed)
        self.rows[name] = run_task(task, solver, self.progress, f"ground: {name}")
        write_jsonl(self.out / f"{name}.jsonl", self.rows[name])

    def solver(self, answerer: Answerer) -> Solver:
        """Asks the index, and looks at each citation."""

        def solve(samples: Sequence[Sample], advance: Advance) -> list[Answer]:
            found = []
            with self.ground.store.snapshot() as snapshot:
                for sample in samples:
                    answer = answerer.answer(snapshot, sample.question)
                    self.citations.extend(one.holds(snapshot) for one in answer.citations)
                    found.append(Answer(text=_plain(answer), tokens=0, finish_reason="stop"))
                    advance(1)
            return found

        return solve


def measure_grounding(
    ground: Grounding,
    sets: Path,
    out: Path,
    progress: Progress,
    *,
    unseen: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Figures of what is answered from the index, each set's rows in ``out``.

    The ladder's questions (``sets``) are answered by quotations alone.  Those of ``unseen`` are
    about what only the documents tell: by quotations; where ``ground`` has a model, also by that
    model with the passages before it, and without any; with passages it is asked the ladder's
    unanswerable ones, too.  ``citations_exact`` is the share of
    citations whose quotation is the document's text at its place.
    """
    asking = _Asking(ground=ground, out=out, progress=progress, limit=limit, seed=seed)
    quoting = asking.solver(ground.answerer(config=AnswerConfig(sentences=1)))  # one value
    for path in (sets / f"{name}.jsonl" for name in ASKED):
        if path.is_file():
            asking.ask(path, path.stem, quoting)
    if unseen is not None:
        asking.ask(unseen, "unseen", quoting)
        if ground.model is not None:
            asking.ask(unseen, "unseen_read", asking.solver(_reader(ground)))
            asking.ask(unseen, "unseen_alone", remote_solver(ground.model, MOST_TOKENS))
            beyond = sets / "unanswerable.jsonl"
            if beyond.is_file():
                asking.ask(beyond, "unanswerable_read", asking.solver(_reader(ground)))
    tasks: dict[str, Any] = {name: figures_of(rows, seed) for name, rows in asking.rows.items()}
    write_json(out / "summary.json", {"tasks": tasks, "citations": len(asking.citations)})
    return _figures(asking.rows, asking.citations)


def _reader(ground: Grounding) -> Answerer:
    """The model reads whatever was found and itself says when that does not answer; nothing it
    writes is shown that no passage bears out."""
    config = AnswerConfig(how="generate", rules="short", max_new_tokens=MOST_TOKENS, threshold=0.0)
    return ground.answerer(config=fitted(config, ground.model))


def _plain(answer: answered.Answer) -> str:
    """What is said, without the markers of its citations: [1] is no number of the answer."""
    text = answer.text
    for citation in answer.citations:
        text = text.replace(citation.marker, "")
    return text.strip()


def _figures(rows_of: Mapping[str, Sequence[Row]], citations: Sequence[bool]) -> dict[str, float]:
    def share(key: str, names: Callable[[str], bool]) -> float | None:
        rows = [row for name, rows in rows_of.items() if names(name) for row in rows]
        return sum(bool(row[key]) for row in rows) / len(rows) if rows else None

    chinese = [share("correct", name.__eq__) for name in ("facts_zh_hans", "facts_zh_hant")]
    found = {
        "facts_en": share("correct", "facts_en".__eq__),
        "facts_zh": min((one for one in chinese if one is not None), default=None),
        "unanswerable": share("correct", "unanswerable".__eq__),
        "over_refusal": share("declined", lambda name: name.startswith("facts_")),
        "unseen": share("correct", "unseen".__eq__),
        "unseen_read": share("correct", "unseen_read".__eq__),
        "unseen_alone": share("correct", "unseen_alone".__eq__),
        "unanswerable_read": share("correct", "unanswerable_read".__eq__),
        "citations_exact": sum(citations) / len(citations) if citations else None,
    }
    return {f"ground.{name}": value for name, value in found.items() if value is not None}
