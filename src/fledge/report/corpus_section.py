"""The corpus: how many pages each step let pass, what was dropped and why, against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fledge.report.gather import RunFiles
from fledge.report.html import Html, Number, element, join, table, term
from fledge.report.svg import bars
from fledge.report.words import compact, count, duration, language, name, percent, size

HIDDEN = ("secret", "pii")
"""Families of reasons whose dropped texts a report must not repeat."""

LISTED = 12
"""Reasons shown at once; the others fold out."""

MEASURES = (
    ("corpus.extraction_f1", "Extraction, token F1", "正文提取"),
    ("corpus.language_accuracy", "Language, accuracy", "语言识别"),
    ("corpus.pii_recall", "Personal data, recall", "个人信息召回"),
    ("corpus.pii_precision", "Personal data, precision", "个人信息精确"),
    ("corpus.near_duplicate_recall", "Duplicates, recall", "去重召回"),
    ("corpus.near_duplicate_precision", "Duplicates, precision", "去重精确"),
)


def corpus_section(run: RunFiles) -> Html | None:
    """The section, or None when there is no corpus yet."""
    stage = run.stage("corpus")
    stats = stage.json("stats.json") if stage else None
    if not isinstance(stats, dict) or stage is None:
        return None
    seconds = stage.json("logs/seconds.json")
    return join(
        _summary(stats, stage.seconds),
        element("h3", term("Pages that passed each step", "各步骤通过的页面")),
        _flow(stats.get("steps", []), seconds if isinstance(seconds, dict) else {}),
        element("div", _reasons(stats), _languages(stats), class_="columns"),
        _truth(stats),
        _samples(stats.get("samples", {})),
    )


def _summary(stats: Mapping[str, Any], seconds: float) -> Html:
    records, kept = stats.get("records", 0), stats.get("kept", 0)
    parts = [
        f"{count(records)} pages read, {count(kept)} kept"
        f" ({percent(kept / records) if records else '–'}),"
        f" {size(stats.get('raw_bytes', 0))} of raw pages became"
        f" {size(stats.get('bytes', 0))} of text",
    ]
    if seconds >= 0.1 and records:
        parts.append(f" at {compact(records / seconds)} pages a second")
    if stats.get("masked"):
        parts.append(f"; {count(stats['masked'])} pieces of personal data masked")
    if stats.get("mended"):
        parts.append(f"; {count(stats['mended'])} broken encodings mended")
    return element("p", *parts, ".")


def _flow(steps: list[dict[str, Any]], seconds: Mapping[str, float]) -> Html:
    """A bar per step: what went on, and what was dropped there."""
    most = max((step["in"] for step in steps), default=0) or 1
    rows = []
    for step in steps:
        lost = step["in"] - step["out"]
        spent = seconds.get(step["step"])
        kept = element("span", class_="fill c1", style=f"width:{100 * step['out'] / most:.2f}%")
        gone = element("span", class_="fill lost", style=f"width:{100 * lost / most:.2f}%")
        shown = [
            element("b", count(step["out"])),
            element("span", f" −{count(lost)}" if lost else "", class_="bad"),
            element("span", f" {duration(spent)}" if spent else "", class_="quiet"),
        ]
        rows.append(
            element(
                "div",
                element("span", step["step"], class_="label"),
                element("span", kept, gone, class_="track"),
                element("span", shown, class_="value"),
                class_="bar",
                title=f"{step['step']}: {count(step['in'])} in, {count(step['out'])} out",
            )
        )
    return element("div", rows, class_="bars wide")


def _reasons(stats: Mapping[str, Any]) -> Html:
    dropped = sorted(stats.get("dropped", {}).items(), key=lambda item: (-item[1], item[0]))
    records = stats.get("records", 0) or 1
    most = max((n for _, n in dropped), default=1)
    rows = [(name(k), float(n), f"{count(n)} · {percent(n / records)}") for k, n in dropped]
    rest = element(
        "details",
        element("summary", f"{len(rows) - LISTED} more"),
        bars(rows[LISTED:], colour=2, most=most),
    )
    return element(
        "div",
        element("h3", term("Dropped, by reason", "丢弃原因")),
        bars(rows[:LISTED], colour=2, most=most),
        rest if len(rows) > LISTED else None,
    )


def _languages(stats: Mapping[str, Any]) -> Html:
    documents, sizes = stats.get("languages", {}), stats.get("language_bytes", {})
    ranked = sorted(documents.items(), key=lambda item: (-item[1], item[0]))
    rows = [(language(k), float(n), f"{count(n)} · {size(sizes.get(k, 0))}") for k, n in ranked]
    splits = stats.get("splits", {})
    note = ", ".join(
        f"{part}: {count(values['documents'])} documents, {size(values['bytes'])}"
        for part, values in splits.items()
    )
    title = element("h3", term("Kept, by language", "保留语言"))
    return element("div", title, bars(rows, colour=3), element("p", note, class_="quiet"))


def _truth(stats: Mapping[str, Any]) -> Html | None:
    """Scores against the ground truth, when the pages came with one."""
    truth, figures = stats.get("truth"), stats.get("figures", {})
    if not truth:
        return None
    measured = [
        (term(english, chinese), figures[key], f"{figures[key]:.4f}")
        for key, english, chinese in MEASURES
        if key in figures
    ]
    drops = [
        (
            name(reason),
            _score(score["precision"]),
            _score(score["recall"]),
            count(score["relevant"]),
            count(score["selected"]),
        )
        for reason, score in truth.get("drops", {}).items()
    ]
    pages = f"{count(truth['pages'])} pages with known truth"
    if truth.get("missing"):
        pages += f", {count(truth['missing'])} of which never arrived"
    heads = (
        "Dropped for",
        Number("Precision"),
        Number("Recall"),
        Number("Should be"),
        Number("Were"),
    )
    return join(
        element("h3", term("Against the ground truth", "与真值对照")),
        element("p", pages, ".", class_="quiet"),
        element("div", bars(measured, colour=4, most=1.0), table(heads, drops), class_="columns"),
    )


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _samples(samples: Mapping[str, list[dict[str, str]]]) -> Html | None:
    if not samples:
        return None
    families: dict[str, list[Html]] = {}
    for reason, rows in sorted(samples.items()):
        families.setdefault(reason.split(".")[0], []).append(_reason_samples(reason, rows))
    blocks = [
        element("details", element("summary", name(family)), reasons)
        for family, reasons in families.items()
    ]
    return join(element("h3", term("What was dropped: samples", "丢弃样例")), blocks)


def _reason_samples(reason: str, rows: list[dict[str, str]]) -> Html:
    hidden = reason.split(".")[0] in HIDDEN
    lines = [
        element(
            "li",
            element("span", row.get("url") or row.get("source", ""), class_="source"),
            element("span", "" if hidden else row.get("evidence", ""), class_="evidence"),
            element("q", "(not repeated here)" if hidden else row.get("text", "")),
        )
        for row in rows
    ]
    return element(
        "details", element("summary", name(reason)), element("ul", lines, class_="samples")
    )
