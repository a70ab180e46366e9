"""Rows of post-training data in; those to keep, and the others with reason and evidence, out.

Rules, then evaluation items, then exact duplicates, then scores, then near duplicates: of likes the
one with the best score is kept, without scores the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fledge.core.files import value_digest, write_json, write_jsonl
from fledge.core.protocols import Bar, Progress
from fledge.core.types import Message, Verdict
from fledge.data.contamination import Contamination
from fledge.data.dedup import fingerprint, near_duplicates, shingles
from fledge.data.examples import (
    Example,
    Kind,
    answers,
    asked,
    example_row,
    parse_examples,
    text_of_messages,
    wholes,
)
from fledge.data.json_rows import Row
from fledge.data.preference_forms import Judged, Preference
from fledge.data.row_rules import rule_verdict
from fledge.data.shards import signatures_of
from fledge.data.sifting_config import SiftingConfig

KEPT, DROPPED, REPORT = "kept.jsonl", "dropped.jsonl", "report.json"

Score = Callable[[Sequence[Message], str], float]
"""How good an answer is, ``score(messages, answer)``: a reward model or a judge."""


class ScoreError(ValueError):
    """An answer has no score: the judge failed on it, or did not name one."""


@dataclass(kw_only=True)
class Item:
    """A row on its way; ``verdict`` is set when it is dropped."""

    origin: str
    row: Any
    """As it was found; of a row that holds several examples, one of them as fledge writes it."""

    example: Example | None = None
    verdict: Verdict | None = None
    score: float | None = None

    @property
    def text(self) -> str:
        """All that is said, each answer after the prompt."""
        assert self.example is not None, "a faulty row is dropped before"
        parts = [text_of_messages(whole) for whole in wholes(self.example)]
        return "\n".join(parts)


@dataclass(kw_only=True)
class Sifted:
    """What became of all rows, in their order."""

    items: list[Item] = field(default_factory=list)

    @property
    def kept(self) -> list[Item]:
        """The rows to keep."""
        return [item for item in self.items if item.verdict is None]

    def counts(self) -> dict[str, Any]:
        """``rows``, ``kept`` and ``dropped`` by reason."""
        reasons = Counter(item.verdict.reason for item in self.items if item.verdict is not None)
        return {
            "rows": len(self.items),
            "kept": len(self.kept),
            "dropped": dict(sorted(reasons.items())),
        }


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What rows are held against besides the rules."""

    contamination: Contamination | None = None
    score: Score | None = None


def sift(
    rows: Iterable[Row], kind: Kind, config: SiftingConfig, checks: Checks, progress: Progress
) -> Sifted:
    """Every row of ``rows``, read as ``kind``, with its verdict."""
    sifted = Sifted()
    with progress.bar("rules", None, "rows") as bar:
        for row in rows:
            for item in items_of(row, kind):
                item.verdict = item.verdict or _rules(item, config, checks.contamination)
                sifted.items.append(item)
            bar.advance()
    _drop_exact(sifted)
    if checks.score is not None:
        _drop_low(sifted, config, checks.score, progress)
    if config.near:
        with progress.bar("near duplicates", len(sifted.kept), "rows") as bar:
            for group in _comparable(sifted.kept):
                _drop_near(group, config, bar)
    return sifted


def items_of(row: Row, kind: Kind) -> list[Item]:
    """The examples of a row; one that cannot be read is dropped with its fault."""
    try:
        if row.fault:
            raise ValueError(row.fault)
        examples = parse_examples(row.value, row.origin, kind)
    except ValueError as error:
        verdict = Verdict(reason="read.fault", evidence=str(error))
        return [Item(origin=row.origin, row=row.value, verdict=verdict)]
    if len(examples) == 1:
        return [Item(origin=row.origin, row=row.value, example=examples[0])]
    return [Item(origin=row.origin, row=example_row(one), example=one) for one in examples]


def _rules(
    item: Item, config: SiftingConfig, contamination: Contamination | None
) -> Verdict | None:
    assert item.example is not None, "a faulty row has its verdict"
    verdict = rule_verdict(item.example, config)
    if verdict is not None or contamination is None:
        return verdict
    prompt = [message for message in asked(item.example) if message.role != "system"]
    said = [message for answer in answers(item.example) for message in answer]
    texts = [text_of_messages([message]) for message in (*prompt, *said)]
    return contamination.verdict(texts, [one.content for one in prompt if one.role == "user"])


def _drop_exact(sifted: Sifted) -> None:
    """Drop what repeats a row before it but for case, punctuation and white space."""
    first: dict[tuple[str, bool | None, str], str] = {}
    for item in sifted.kept:
        exact = fingerprint(item.text, 1)[0]
        origin = first.setdefault((exact, *_sort(item)), item.origin)
        if origin != item.origin:
            item.verdict = Verdict(reason="duplicate.exact", evidence=f"like {origin}")


def _sort(item: Item) -> tuple[bool | None, str]:
    """(judged good or bad, tools): rows that differ in these say different things."""
    assert item.example is not None, "a faulty row has its verdict"
    good = item.example.good if isinstance(item.example, Judged) else None
    return good, value_digest(list(item.example.tools))


def _comparable(items: Sequence[Item]) -> Iterable[list[Item]]:
    """The items in groups that may be duplicates of each other."""
    groups: dict[tuple[bool | None, str], list[Item]] = {}
    for item in items:
        groups.setdefault(_sort(item), []).append(item)
    return groups.values()


def _drop_low(sifted: Sifted, config: SiftingConfig, score: Score, progress: Progress) -> None:
    """Score what is left; drop answers that score too low, and pairs that are the wrong way."""
    kept = sifted.kept
    with progress.bar("scores", len(kept), "rows") as bar:
        for item in kept:
            assert item.example is not None, "a faulty row has its verdict"
            prompt = asked(item.example)
            try:
                scores = [score(prompt, answer[-1].content) for answer in answers(item.example)]
            except ScoreError as error:
                item.verdict = Verdict(reason="score.none", evidence=str(error))
            else:
                item.score = scores[0] if scores else None
                item.verdict = _score_verdict(item.example, scores, config.min_score)
            bar.advance()


def _score_verdict(
    example: Example, scores: Sequence[float], least: float | None
) -> Verdict | None:
    if not scores:
        return None  # a conversation that ends with a question
    if isinstance(example, Preference) and scores[0] <= scores[1]:
        evidence = f"chosen {scores[0]:g}, rejected {scores[1]:g}"
        return Verdict(reason="score.order", evidence=evidence)
    bad = isinstance(example, Judged) and not example.good
    if least is not None and not bad and scores[0] < least:
        return Verdict(reason="score.low", evidence=f"{scores[0]:g}, least {least:g}")
    return None


def _drop_near(kept: Sequence[Item], config: SiftingConfig, bar: Bar) -> None:
    """Drop what is nearly a row that is kept: the best of likes stays, or the first."""
    size = config.bands * config.rows
    signatures = []
    for item in kept:
        signatures.append(fingerprint(item.text, size)[1])
        bar.advance()
    order = sorted(range(len(kept)), key=lambda place: -(kept[place].score or 0.0))
    redundant = near_duplicates(
        signatures_of(signatures, size),
        order,
        lru_cache(maxsize=100_000)(lambda place: shingles(kept[place].text)),
        bands=config.bands,
        rows=config.rows,
        threshold=config.threshold,
    )
    for place, (other, similarity) in redundant.items():
        evidence = f"{similarity:.2f} like {kept[other].origin}"
        kept[place].verdict = Verdict(reason="duplicate.near", evidence=evidence)


def write_sifted(sifted: Sifted, folder: Path, report: dict[str, Any]) -> None:
    """``kept.jsonl`` (rows as they were), ``dropped.jsonl`` and, last, ``report.json``."""
    write_jsonl(folder / KEPT, (item.row for item in sifted.kept))
    write_jsonl(
        folder / DROPPED,
        (
            {
                "reason": item.verdict.reason,
                "evidence": item.verdict.evidence,
                "origin": item.origin,
                "row": item.row,
            }
            for item in sifted.items
            if item.verdict is not None
        ),
    )
    write_json(folder / REPORT, report)
