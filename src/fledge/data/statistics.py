"""Counts of what a corpus kept and dropped, samples, and scores where ground truth exists."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from fledge.core.files import read_jsonl
from fledge.data.config import CorpusConfig
from fledge.data.records import ReadNotes
from fledge.data.showing import shown, shown_evidence
from fledge.metrics.curation import (
    PrecisionRecall,
    drop_scores,
    duplicate_scores,
    mean,
    pii_scores,
    token_f1,
)

SAMPLES = 3
LISTED_FILES = 50


def family(reason: str | None) -> str | None:
    """The part of a reason before the dot: ``quality.too_short`` -> ``quality``."""
    return reason.split(".")[0] if reason is not None else None


class Statistics:
    """Takes the rows of a corpus one by one; ``result`` is the content of ``stats.json``."""

    def __init__(self, config: CorpusConfig, notes: ReadNotes, truth: Path | None) -> None:
        self._notes = notes
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._language_bytes: Counter[str] = Counter()
        self._samples: dict[str, list[dict[str, str]]] = {}
        self._truth = Truth(truth) if truth is not None else None

    def add(self, row: dict[str, Any], split: str) -> None:
        """Count one document, kept or dropped."""
        self._counts["records"] += 1
        self._counts["raw_bytes"] += row["raw_bytes"]
        metadata = json.loads(row["metadata"])
        self._counts["mended"] += bool(metadata.get("mended"))
        if row["reason"] is None:
            size = len(row["text"].encode("utf-8"))
            self._counts["kept"] += 1
            self._counts["bytes"] += size
            self._counts["masked"] += len(metadata.get("masked", ()))
            self._counts[f"split.{split}"] += 1
            self._counts[f"split_bytes.{split}"] += size
            self._languages[row["lang"]] += 1
            self._language_bytes[row["lang"]] += size
        else:
            self._drop(row)
        if self._truth is not None:
            self._truth.add(row)

    def _drop(self, row: dict[str, Any]) -> None:
        reason = row["reason"]
        self._dropped[reason] += 1
        samples = self._samples.setdefault(reason, [])
        if len(samples) < SAMPLES:
            text, evidence = shown(row["text"]), shown_evidence(row["evidence"], row["text"])
            samples.append(
                {
                    "source": row["source"],
                    "url": row["url"],
                    "evidence": evidence,
                    "text": text,
                }
            )

    def result(self) -> dict[str, Any]:
        """Everything, in a fixed order."""
        counts = self._counts
        stats: dict[str, Any] = {
            "documents": counts["kept"],
            "bytes": counts["bytes"],
            "kept": counts["kept"],
            "records": counts["records"],
            "raw_bytes": counts["raw_bytes"],
            "dropped": dict(sorted(self._dropped.items())),
            "languages": dict(sorted(self._languages.items())),
            "language_bytes": dict(sorted(self._language_bytes.items())),
            "splits": {
                split: {
                    "documents": counts[f"split.{split}"],
                    "bytes": counts[f"split_bytes.{split}"],
                }
                for split in ("train", "validation")
            },
            "masked": counts["masked"],
            "mended": counts["mended"],
            "steps": self._steps(),
            "files": self._files(),
            "samples": dict(sorted(self._samples.items())),
        }
        if self._truth is not None:
            stats["truth"], stats["figures"] = self._truth.result()
        return stats

    def _steps(self) -> list[dict[str, Any]]:
        """Documents in and out of each step, in the order of the steps."""
        left = self._counts["records"]
        steps = []
        for name, families in STEPS:
            lost = sum(n for reason, n in self._dropped.items() if family(reason) in families)
            steps.append({"step": name, "in": left, "out": left - lost})
            left -= lost
        return steps

    def _files(self) -> dict[str, Any]:
        notes = self._notes
        return {
            "read": notes.files,
            "truncated": len(notes.truncated),
            "damaged": len(notes.damaged),
            "skipped": len(notes.skipped),
            "skipped_records": notes.skipped_records,
            "truncated_files": notes.truncated[:LISTED_FILES],
            "damaged_files": notes.damaged[:LISTED_FILES],
            "skipped_files": notes.skipped[:LISTED_FILES],
            "left_out": sum(notes.left_out.values()),
            "left_out_kinds": notes.left_out,
        }


STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("read", ("read", "failed")),
    ("extract", ("extract",)),
    ("guard", ("secret", "injection", "poison", "unsafe")),
    ("quality", ("quality",)),
    ("language", ("language",)),
    ("personal data", ("pii",)),
    ("duplicates", ("duplicate",)),
)
"""Steps, and the families of reasons they drop for."""


class Truth:
    """What should have come out, page by page (by URL), and how it compares."""

    def __init__(self, path: Path) -> None:
        self._expected: dict[str, dict[str, Any]] = {row["url"]: row for row in read_jsonl(path)}
        self._rows: dict[str, dict[str, Any]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Remember what became of a page that the truth knows."""
        if row["url"] in self._expected:
            self._rows[row["url"]] = {key: row[key] for key in ("text", "lang", "reason", "masked")}

    def result(self) -> tuple[dict[str, Any], dict[str, float]]:
        """(details per step, the flat figures of ``report.json``)."""
        pages = [url for url in self._expected if url in self._rows]
        pii = self._pii(pages)
        duplicates = self._duplicates(pages)
        figures = {
            "corpus.extraction_f1": mean(self._extraction(pages).values()),
            "corpus.language_accuracy": self._language(pages),
            "corpus.pii_recall": pii.recall,
            "corpus.pii_precision": pii.precision,
            "corpus.near_duplicate_recall": duplicates.recall,
            "corpus.near_duplicate_precision": duplicates.precision,
        }
        actual = {url: _judged(family(self._rows[url]["reason"])) for url in pages}
        expected = {url: _judged(self._expected[url]["reason"]) for url in pages}
        details = {
            "pages": len(pages),
            "missing": len(self._expected) - len(pages),
            "keep_accuracy": mean(
                (expected[url] is None) == (actual[url] is None) for url in pages
            ),
            "drops": {name: _plain(score) for name, score in drop_scores(expected, actual).items()},
            "pii": _plain(pii),
            "duplicates": _plain(duplicates),
        }
        return details, {name: value for name, value in figures.items() if value is not None}

    def _extraction(self, pages: list[str]) -> dict[str, float]:
        """Token F1 of each page that should be kept and was extracted."""
        return {
            url: token_f1(_unmasked(self._rows[url]), self._expected[url]["text"])
            for url in pages
            if self._expected[url]["keep"] and self._expected[url]["text"]
        }

    def _language(self, pages: list[str]) -> float | None:
        """Share of right labels among pages that are text in some language."""
        return mean(
            float(self._rows[url]["lang"] == self._expected[url]["language"])
            for url in pages
            if self._rows[url]["lang"]
            and self._expected[url]["reason"] in (None, "language", "duplicate")
        )

    def _pii(self, pages: list[str]) -> PrecisionRecall:
        kept = [url for url in pages if self._rows[url]["reason"] is None]
        return pii_scores(
            [self._rows[url]["masked"] for url in kept],
            [self._expected[url]["pii"] for url in kept],
            [self._expected[url]["not_pii"] for url in kept],
        )

    def _duplicates(self, pages: list[str]) -> PrecisionRecall:
        families = {url: family(self._rows[url]["reason"]) for url in pages}
        return duplicate_scores(
            {url: self._expected[url]["duplicate_group"] for url in pages},
            {url for url in pages if families[url] == "duplicate"},
            {url for url in pages if families[url] in (None, "duplicate")},
        )


def _judged(reason: str | None) -> str | None:
    """A family as drops are scored: which copy of a page stays is scored as duplicates are."""
    return SCORED_AS.get(reason, reason) if reason is not None else None


SCORED_AS: dict[str, str | None] = {
    "duplicate": None,
    "empty": "quality",
    "extract": "quality",
    "binary": "read",
}
"""Families that mean the same drop: a page without text is a page of no quality."""


def _unmasked(row: dict[str, Any]) -> str:
    """The text with placeholders turned back, so that masking does not count as bad extraction."""
    text: str = row["text"]
    for original in row["masked"]:
        start = text.find("<")
        while start >= 0 and text[start : text.find(">", start) + 1] not in PLACEHOLDERS:
            start = text.find("<", start + 1)
        if start < 0:
            break
        text = text[:start] + original + text[text.find(">", start) + 1 :]
    return text


PLACEHOLDERS = frozenset(
    f"<{kind}>" for kind in ("EMAIL", "PHONE", "IP", "CARD", "IBAN", "ID", "SSN", "SECRET")
)


def _plain(score: PrecisionRecall) -> dict[str, Any]:
    return {
        "precision": score.precision,
        "recall": score.recall,
        "selected": score.selected,
        "relevant": score.relevant,
        "correct": score.correct,
    }
