"""The figures of ``scaling.json`` in, a self-contained page out."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fledge.report.html import Html, Number, element, join, table
from fledge.report.log_chart import Curve, colour, log_chart
from fledge.report.words import compact, count, percent

LAW = "L(N, D) = E + A / N^α + B / D^β"
LETTERS = {"alpha": "α", "beta": "β"}


def render_scaling(name: str, found: dict[str, Any]) -> str:
    """The page as HTML text."""
    sections = (
        ("Prediction, checked", _prediction(found)),
        ("The law", _law(found)),
        ("What a budget wants", _budgets(found)),
        ("Curves", _curves(found)),
        ("Runs", _runs(found)),
    )
    style = files("fledge.report").joinpath("page.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name} · fledge scale"),
        element("style", Html(style)),
    )
    body = element(
        "body",
        element("header", element("p", "fledge scale", class_="kicker"), element("h1", name),
                element("p", _headline(found)), _warnings(found)),
        element("main", [element("section", element("h2", title), content)
                         for title, content in sections]),
        element("footer", "N: all weights, the embedding once (it is the output matrix too). "
                "D: tokens trained on. C = 6 N D. Loss on held-out text. Intervals: 95 %, runs "
                "redrawn. The same numbers for machines: scaling.json."),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _headline(found: dict[str, Any]) -> str:
    runs, held = found["runs"], found["held_out"]
    said = (
        f"{len(runs)} runs, {compact(min(r['parameters'] for r in runs))} to "
        f"{compact(max(r['parameters'] for r in runs))} parameters, "
        f"{compact(min(r['tokens'] for r in runs))} to "
        f"{compact(max(r['tokens'] for r in runs))} tokens."
    )
    if held["measured"] is None:
        return f"{said} The held-out run is not done yet."
    verdict = "inside" if held["inside"] else "outside"
    return (
        f"{said} A run of {held['beyond']:.1f} times the operations of the largest of them was "
        f"predicted before it began: off by {held['error']:+.2%}, {verdict} the 95 % interval."
    )


def _warnings(found: dict[str, Any]) -> Html | None:
    if not found["warnings"]:
        return None
    return element("ul", [element("li", line, class_="bad") for line in found["warnings"]])


def _prediction(found: dict[str, Any]) -> Html:
    held = found["held_out"]
    low, high = held["ci95"]
    cards = [
        ("predicted", f"{held['predicted']:.4f}", f"[{low:.4f}, {high:.4f}] nats a token"),
        ("in bits a byte", f"{held['predicted_bits_per_byte']:.4f}", "predicted"),
    ]
    if held["measured"] is not None:
        verdict = "inside the interval" if held["inside"] else "outside the interval"
        cards += [
            ("measured", f"{held['measured']:.4f}", verdict),
            ("error", f"{held['error']:+.2%}", "predicted against measured"),
            ("in bits a byte", f"{held['measured_bits_per_byte']:.4f}", "measured"),
        ]
    shown = [
        element("div", element("div", what, class_="what"), element("div", figure, class_="figure"),
                element("div", small, class_="quiet"), class_="card")
        for what, figure, small in cards
    ]  # fmt: skip
    return join(
        element("p", f"The held-out run: {count(held['parameters'])} parameters, "
                f"{count(held['tokens'])} tokens. It was never fitted."),
        element("div", shown, class_="cards"),
    )  # fmt: skip


def _law(found: dict[str, Any]) -> Html:
    rows = [
        (LETTERS.get(name, name), f"{row['value']:.4g}", _interval(row["ci95"], ".4g"))
        for name, row in found["law"].items()
    ]
    rows += [
        (f"{letter} ∝ C^x, x =", f"{row['value']:.3f}", _interval(row["ci95"], ".3f"))
        for letter, row in zip("ND", found["exponents"].values(), strict=True)
    ]
    return join(
        element("p", element("b", LAW), ", in nats a token (arXiv:2203.15556, eq. 10)."),
        table(("parameter", Number("value"), Number("95 % interval")), rows),
    )


def _held_point(one: dict[str, Any], held: dict[str, Any]) -> list[tuple[float, float]]:
    if held["measured"] is None or one["parameters"] != held["parameters"]:
        return []
    return [(held["tokens"], held["measured"])]


def _budgets(found: dict[str, Any]) -> Html:
    rows = []
    for row in found["budgets"]:
        if row["parameters"] is None:
            rows.append((row["asked"], f"{row['flops']:.2e}", "no optimum", "", "", ""))
            continue
        shape = row["shape"]
        rows.append(
            (
                row["asked"],
                f"{row['flops']:.2e}",
                _with_interval(row["parameters"]),
                _with_interval(row["tokens"]),
                f"{row['loss']['value']:.3f} {_interval(row['loss']['ci95'], '.3f')}",
                f"depth {shape['depth']}, {compact(shape['parameters'])}",
            )
        )
    heads = ("budget", Number("C"), Number("N"), Number("D"), Number("loss"), "nearest depth")
    return table(heads, rows)


def _curves(found: dict[str, Any]) -> Html:
    held = found["held_out"]
    over_tokens = [
        Curve(
            name=f"{compact(one['parameters'])} parameters",
            line=one["curve"],
            points=one["measured"] or _held_point(one, held),
            hollow=not one["measured"],
            colour=colour(i),
        )
        for i, one in enumerate(found["curves"])
    ]
    iso = [
        Curve(
            name=f"{one['flops']:.1e} operations",
            line=one["curve"],
            marks=[one["lowest"]] if one["lowest"] else [],
            colour=colour(i),
        )
        for i, one in enumerate(found["isoflop"])
    ]
    unit = "nats a token"
    charts = (
        log_chart(over_tokens, x_label="tokens", y_label=unit, title="Loss over length, by size"),
        log_chart(iso, x_label="parameters", y_label=unit, title="Equal operations, lowest marked"),
    )
    note = "Dots were measured and fitted; the ring is the held-out run, measured only."
    return join(element("div", charts, class_="charts"), element("p", note, class_="quiet"))


def _runs(found: dict[str, Any]) -> Html:
    held = found["held_out"]
    rows = [
        (
            f"{run['depth']} x {run['width']}",
            count(run["parameters"]),
            count(run["tokens"]),
            f"{run['flops']:.2e}",
            f"{run['loss']:.4f}",
            f"{run['fitted']:.4f}",
            percent(run["fitted"] / run["loss"] - 1, 2),
            f"{run['bits_per_byte']:.4f}",
        )
        for run in found["runs"]
    ]
    if held["measured"] is not None:
        rows.append(
            (
                f"{held['name']} (held out)",
                count(held["parameters"]),
                count(held["tokens"]),
                f"{held['flops']:.2e}",
                f"{held['measured']:.4f}",
                f"{held['predicted']:.4f}",
                percent(held["error"], 2),
                f"{held['measured_bits_per_byte']:.4f}",
            )
        )
    heads = ("N", "D", "C", "nats a token", "fitted", "off by", "bits a byte")
    return table(("layers x width", *map(Number, heads)), rows)


def _interval(ends: list[float], form: str) -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def _with_interval(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{compact(row['value'])} [{compact(low)}, {compact(high)}]"
