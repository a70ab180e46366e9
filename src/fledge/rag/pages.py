"""Rows of a comparison, or grids of needles in, a self-contained page out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from fledge.rag.compare import Row
from fledge.rag.needle import Grid
from fledge.report.heat_map import heat_map
from fledge.report.html import Child, Html, Number, element, join, table
from fledge.report.svg import Series, interval_bar, line_chart

QUALITY = ("hit@1", "hit@k", "mrr", "answer", "over_refusal", "declined")
COLOURS = 6


def page(title: str, about: str, *sections: tuple[str, Child]) -> str:
    """A page in the look of all reports."""
    style = files("fledge.report").joinpath("page.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    body = element(
        "body",
        element("header", element("p", "fledge", class_="kicker"), element("h1", title),
                element("p", about)),
        element("main", [element("section", element("h2", name), content)
                         for name, content in sections]),
        element("footer", "The same numbers for machines lie beside this page as JSON."),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def compare_page(rows: Sequence[Row], left_out: dict[str, str], questions: int) -> str:
    """Strategies in one table and two charts."""
    told = [row.to_json() for row in rows]
    notes = [f"{name}: {why}" for name, why in left_out.items()]
    about = f"{len(rows)} ways of retrieving, {questions:,} questions each. Bars: 95 % intervals,"
    about += " documents redrawn."
    return page(
        "Retrieval compared",
        about + (f" Left out: {'; '.join(notes)}." if notes else ""),
        ("Quality, time and cost", _table(told)),
        ("Quality over time", _scatter(told)),
    )


def _name(row: dict[str, Any]) -> str:
    window = "" if row["window"] is None else f", ±{row['window']}"
    return f"{row['strategy']}, {row['size']} tokens{window}, k = {row['k']}"


def _table(told: Sequence[dict[str, Any]]) -> Html:
    shown = [name for name in QUALITY if any(name in row["quality"] for row in told)]
    asks = any(_model_tokens(row) for row in told)
    numbers = ["p50 ms", "p95 ms", "context tokens", *(["model tokens"] if asks else []), "exact"]
    heads = ["strategy", *shown, *map(Number, numbers)]
    return table(heads, [_row(row, shown, asks=asks) for row in told], class_="many")


def _model_tokens(row: dict[str, Any]) -> float:
    return float(row["tokens"]["prompt"] + row["tokens"]["completion"])


def _row(row: dict[str, Any], shown: Sequence[str], *, asks: bool) -> list[Child]:
    cells: list[Child] = [element("span", _name(row), class_="unbroken")]
    for name in shown:
        one = row["quality"].get(name)
        if one is None:
            cells.append("–")
            continue
        tip = f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}], n = {one['n']:,}"
        bar = interval_bar(one["value"], one["low"], one["high"], tip=tip)
        cells.append(join(f"{one['value']:.3f}", bar))
    tokens, cited = row["tokens"], row["citations"]
    time = row["milliseconds"]["all"]
    slow = sorted(row["milliseconds"].items(), key=lambda item: -item[1]["p50"])
    steps = ", ".join(f"{name} {one['p50']:.1f}" for name, one in slow if name != "all")
    return [
        *cells,
        element("span", f"{time['p50']:.1f}", title=steps),
        f"{time['p95']:.1f}",
        f"{tokens['context']:,.0f}",
        *([f"{_model_tokens(row):,.0f}"] if asks else []),
        element("span", f"{cited['exact']:,} of {cited['shown']:,}", title="citations"),
    ]


def _scatter(told: Sequence[dict[str, Any]]) -> Html:
    names = list(dict.fromkeys(row["strategy"] for row in told))
    charts = []
    measured = {name for row in told for name in row["quality"]}
    for quality in [name for name in ("hit@1", "answer") if name in measured]:
        series = [
            Series(
                name=name,
                points=[
                    (row["milliseconds"]["all"]["p50"], row["quality"][quality]["value"])
                    for row in told
                    if row["strategy"] == name and quality in row["quality"]
                ],
                colour=place % COLOURS + 1,
                dots=True,
            )
            for place, name in enumerate(names)
        ]
        charts.append(
            line_chart(series, x_label="milliseconds, p50", y_label=quality, title=quality)
        )
    return element("div", charts, class_="charts")


def needle_page(grids: Sequence[Grid]) -> str:
    """A heat map for each language."""
    names = {"en": ("English", "英文"), "zh": ("Chinese", "中文")}
    maps = [
        join(
            heat_map(
                grid.found,
                rows=[f"{length:,}" for length in grid.lengths],
                columns=[f"{depth:.0%}" for depth in grid.depths],
                title=names[grid.language][0],
                chinese=names[grid.language][1],
                axes=("tokens", "depth"),
            ),
            [element("p", f"{count} x {note}", class_="bad") for note, count in grid.notes.items()],
        )
        for grid in grids
    ]
    what = "by retrieval" if grids[0].mode == "retrieval" else "by the model in its own context"
    about = f"The share of {grids[0].tried} needles a field that was found {what}."
    return page("Needle in a haystack", about, ("Depth and length", element("div", maps)))
