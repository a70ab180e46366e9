"""Curves and measured points in, an inline SVG over a logarithmic x axis out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fledge.report.html import Html, element, join
from fledge.report.svg import axis_label, ticks
from fledge.report.words import compact

WIDTH, HEIGHT = 500, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 40
COLOURS = 6

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line, the points measured near it, and points marked on it, in one colour (1..6)."""

    name: str
    line: Sequence[Point]
    points: Sequence[Point] = field(default=())
    marks: Sequence[Point] = field(default=())
    hollow: bool = False
    """Draw the points as rings: measured, but not fitted."""
    colour: int = 1


def colour(number: int) -> int:
    """The palette's colour of the number-th curve."""
    return 1 + number % COLOURS


def log_chart(curves: Sequence[Curve], *, x_label: str, y_label: str, title: str) -> Html:
    """Curves over x on a logarithmic axis, with a legend."""
    shown = [Curve(**{**vars(c), **_drawable(c)}) for c in curves]
    everything = [p for c in shown for p in (*c.line, *c.points, *c.marks)]
    if not everything:
        return element("p", "No values yet.", class_="quiet")
    lows, highs = ((f(x for x, _ in everything), f(y for _, y in everything)) for f in (min, max))
    y_ticks = ticks(lows[1], highs[1], 6)
    axes = _Axes(
        math.log10(lows[0]), max(math.log10(highs[0]), math.log10(lows[0]) + 1e-6),
        y_ticks[0], y_ticks[-1],
    )  # fmt: skip
    content = [
        *[axes.y_tick(value, axis_label(value, y_ticks)) for value in y_ticks],
        *[axes.x_tick(value) for value in decades(lows[0], highs[0])],
        element("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, class_="axis middle"),
        *[_curve(c, axes, x_label) for c in shown],
    ]
    picture = element(
        "svg",
        element("title", f"{title}: {y_label} over {x_label}"),
        content,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="chart",
    )
    keys = [
        element("span", element("i", class_=f"key c{c.colour}"), c.name, class_="entry",
                style="display:inline-block")
        for c in shown
    ]  # fmt: skip
    legend = element("div", keys, class_="quiet") if len(keys) > 1 else None
    return element("figure", element("figcaption", element("b", title), " · ", y_label), picture,
                   legend)  # fmt: skip


def decades(low: float, high: float) -> list[float]:
    """Round values of [low, high]: powers of ten, with 2 and 5 between them where there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        found = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(found) >= 4:
            return found
    return found


@dataclass(frozen=True)
class _Axes:
    """From values to pixels; x in powers of ten."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.x_low) / (self.x_high - self.x_low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    def x_tick(self, value: float) -> Html:
        at, base = self.x(value), HEIGHT - BOTTOM
        shown = compact(value) if value < 1e10 else f"{value:.0e}".replace("e+", "e")
        return join(
            element("line", x1=at, x2=at, y1=base, y2=base + 4, class_="tick"),
            element("text", shown, x=at, y=base + 17, class_="axis middle"),
        )

    def y_tick(self, value: float, shown: str) -> Html:
        at = self.y(value)
        return join(
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"),
            element("text", shown, x=LEFT - 8, y=at + 4, class_="axis end"),
        )


def _drawable(curve: Curve) -> dict[str, list[Point]]:
    return {
        name: [
            (x, y)
            for x, y in getattr(curve, name)
            if math.isfinite(x) and math.isfinite(y) and 0 < x < 1e30 and abs(y) < 1e30
        ]
        for name in ("line", "points", "marks")
    }


def _curve(curve: Curve, axes: _Axes, x_label: str) -> Html:
    line = " ".join(f"{axes.x(a)},{axes.y(b)}" for a, b in curve.line)
    ring = {"style": "fill:var(--paper);stroke:var(--s);stroke-width:2"} if curve.hollow else {}
    return join(
        element("polyline", points=line, class_=f"line s{curve.colour}"),
        *[
            element(
                "circle",
                element("title", f"{curve.name}: {y:.4g} at {compact(x)} {x_label}"),
                cx=axes.x(x),
                cy=axes.y(y),
                r=4,
                class_=f"dot s{curve.colour}",
                **ring,
            )
            for x, y in curve.points
        ],
        *[_diamond(axes.x(x), axes.y(y), curve, f"lowest: {y:.4g} at {compact(x)} {x_label}")
          for x, y in curve.marks],
    )  # fmt: skip


def _diamond(x: float, y: float, curve: Curve, tip: str) -> Html:
    path = f"M{x} {y - 6}L{x + 5} {y}L{x} {y + 6}L{x - 5} {y}Z"
    return element("path", element("title", f"{curve.name}, {tip}"), d=path,
                   class_=f"dot s{curve.colour}")  # fmt: skip
