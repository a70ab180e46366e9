"""A JSONL file of questions in, labelled questions out: where in which document each is answered.

A line holds ``question`` and any of: ``document`` (its id in the index, or its path), ``start`` and
``end`` or ``spans`` ([[start, end], ...], characters of the document), ``answer`` or ``answers``
(texts), ``answerable`` (false: the documents do not answer it).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.index.store.protocol import Snapshot
from fledge.rag.passage import Passage

KEYS = {"id", "question", "document", "start", "end", "spans", "answer", "answers", "answerable"}
HELD = 0.5
"""Share of an answer's characters that a passage must hold to count, for answers that are longer
than a passage."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A question and what answers it."""

    question: str
    document: str = ""
    """An id or a path; "" when the answer may stand anywhere."""
    spans: tuple[tuple[int, int], ...] = ()
    answers: tuple[str, ...] = ()
    answerable: bool = True

    def answered_by(self, passage: Passage) -> bool:
        """Whether the passage holds the answer: a span of it, else its text, else the document."""
        span = passage.span
        if self.document and self.document not in (span.document, passage.path):
            return False
        if self.spans:
            return any(_holds(span.start, span.end, *one) for one in self.spans)
        if self.answers:
            return any(answer in passage.text for answer in self.answers)
        return bool(self.document)

    def touched_by(self, passage: Passage) -> bool:
        """Whether the passage holds any of the answer, and so has to go to leave it unanswered."""
        span = passage.span
        if self.document and self.document not in (span.document, passage.path):
            return False
        if self.spans:
            return any(span.start < end and start < span.end for start, end in self.spans)
        return self.answered_by(passage)


def _holds(start: int, end: int, first: int, last: int) -> bool:
    inside = min(end, last) - max(start, first)
    return start <= first and last <= end if last - first < end - start else (
        inside >= HELD * (end - start)
    )  # fmt: skip


def read_questions(path: Path) -> list[Labelled]:
    """The questions of a file; raises InputError naming the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", remedy="give a JSONL file") from None
    found = [_parsed(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{path} holds no question", remedy='write {"question": …} on each line')
    return found


def check_documents(questions: Sequence[Labelled], snapshot: Snapshot) -> None:
    """Raise InputError for a question whose document the index does not hold: no passage could
    ever count as right, and every figure would be 0."""
    named = {one.document for one in questions if one.document and one.answerable}
    known = {name for one in snapshot.known() for name in (one.id, one.path)} if named else set()
    for name in sorted(named - known):
        ends = min((one for one in known if one.endswith(f"/{name}")), key=len, default="")
        raise InputError(
            f"{len(named - known):,} of {len(named):,} documents that questions name are not in "
            f"the index, such as {name!r}",
            remedy=f"did you mean {ends!r}?" if ends else f"it has {min(known, default='none')!r}",
        )


def _parsed(line: str, where: str) -> Labelled:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise InputError(f"{where} has no text 'question'", remedy="one object a line")
    unknown = row.keys() - KEYS
    if unknown:
        raise InputError(
            f"{where}: unknown key {min(unknown)!r}", remedy=f"known: {', '.join(sorted(KEYS))}"
        )
    try:
        return _labelled(row)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{where}: {error}", remedy="see docs/grounding-answers.md") from None


def _labelled(row: dict[str, Any]) -> Labelled:
    spans: Sequence[Any] = row.get("spans") or ()
    if row.get("start") is not None:
        spans = [(row["start"], row["end"])]
    answers = row.get("answers") or ([row["answer"]] if row.get("answer") else [])
    if any(not isinstance(answer, str) for answer in answers):
        raise ValueError("an answer is not a text")
    pairs = tuple((int(start), int(end)) for start, end in spans)
    if any(not 0 <= start < end for start, end in pairs):
        raise ValueError("a span is not start < end")
    return Labelled(
        question=row["question"],
        document=str(row.get("document") or ""),
        spans=pairs,
        answers=tuple(answers),
        answerable=bool(row.get("answerable", True)),
    )
