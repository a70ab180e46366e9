"""Numbers in, inline SVG out: line charts, bars, bars with intervals.  Colours come from the page.

Tooltips are ``<title>`` elements, so a chart needs no script and prints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fledge.report.html import Child, Html, element, join, term
from fledge.report.words import compact

WIDTH, HEIGHT = 500, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 40
MOST_POINTS = 300
TOOLTIPS = 60
TINY, HUGE = 1e-9, 1e30
"""Sizes below which a range counts as a point, and beyond which a value is not drawn."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line: points (x, y); ``colour`` 1..6 of the page's palette; ``faint`` for raw values."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return round(self.start + share * (self.end - self.start), 1)


@dataclass(frozen=True)
class Event:
    """Something that happened at ``x``: a dashed line across a chart."""

    x: float
    what: str


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str,
    chinese: str = "",
    zero: bool = False,
    events: Sequence[Event] = (),
) -> Html:
    """Lines over common axes with a legend; ``zero`` starts the y axis at 0."""
    shown = [Series(**{**vars(s), "points": thin(_finite(s.points))}) for s in series]
    shown = [s for s in shown if s.points]
    if not shown:
        return element("p", "No values yet.", class_="quiet")
    xs = [x for s in shown for x, _ in s.points]
    ys = [y for s in shown for _, y in s.points]
    x_ticks, y_ticks = ticks(min(xs), max(xs), 6), ticks(0 if zero else min(ys), max(ys), 5)
    x = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    content = [
        *[_y_tick(value, y, axis_label(value, y_ticks)) for value in y_ticks],
        *[
            _x_tick(value, x, axis_label(value, x_ticks))
            for value in x_ticks
            if min(xs) <= value <= max(xs)
        ],
        element("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, class_="axis middle"),
        *[_event(e, x, x_label) for e in events if min(xs) <= e.x <= max(xs)],
        *[_line(s, x, y) for s in shown],
        *[_dots(s, x, y, x_label) for s in shown if not s.faint],
    ]
    picture = element(
        "svg",
        element("title", f"{title}: {y_label} over {x_label}"),
        content,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="chart",
    )
    name = term(element("b", title), chinese)
    caption = element("figcaption", name, " · ", y_label, _legend(shown, events))
    return element("figure", caption, picture)


def bars(
    rows: Sequence[tuple[Child, float, str]],
    *,
    colour: int = 1,
    most: float | None = None,
) -> Html:
    """Horizontal bars: (label, value, shown value), the longest as wide as ``most``."""
    longest = most or max((value for _, value, _ in rows), default=0) or 1
    return element(
        "div",
        [
            element(
                "div",
                element("span", label, class_="label"),
                element(
                    "span",
                    element(
                        "span",
                        class_=f"fill c{colour}",
                        style=f"width:{100 * min(max(value / longest, 0), 1):.2f}%",
                    ),
                    class_="track",
                ),
                element("span", shown, class_="value"),
                class_="bar",
            )
            for label, value, shown in rows
        ],
        class_="bars",
    )


def interval_bar(
    value: float, low: float, high: float, *, tip: str, colour: int = 1, most: float = 1.0
) -> Html:
    """A bar from 0 to ``most`` with a whisker from ``low`` to ``high``."""
    scale = _Scale(0.0, most, 0.0, 180.0)
    left, right = scale(max(low, 0)), scale(min(high, most))
    filled = max(scale(min(value, most)), 0)
    whisker = f"M{left} 5V13M{left} 9H{right}M{right} 5V13"
    return element(
        "svg",
        element("title", tip),
        element("rect", x=0, y=4, width=180, height=10, rx=2, class_="track"),
        element("rect", x=0, y=4, width=filled, height=10, rx=2, class_=f"fill c{colour}"),
        element("path", d=whisker, class_="whisker"),
        viewBox="-2 0 184 18",
        class_="interval",
        role="img",
    )


@dataclass(frozen=True)
class Step:
    """A value of one rung with its interval, and what pointing at it tells."""

    name: str
    value: float
    low: float
    high: float
    tip: str
    colour: int


def step_chart(steps: Sequence[Step], *, most: float, even: float | None = None) -> Html:
    """A small chart: the values from left to right with whiskers, 0 to ``most``; a dashed line at
    ``even``."""
    wide, high, edge = 220, 96, 22
    y = _Scale(0.0, most, high - 16, 8)
    xs = [round(edge + i * (wide - 2 * edge) / max(len(steps) - 1, 1), 1)
          for i in range(len(steps))]  # fmt: skip
    line = " ".join(f"{x},{y(step.value)}" for x, step in zip(xs, steps, strict=True))
    content: list[Child] = [
        element("line", x1=4, x2=wide - 4, y1=y(0), y2=y(0), class_="grid"),
        element("line", x1=4, x2=wide - 4, y1=y(most), y2=y(most), class_="grid"),
    ]
    if even is not None:
        content.append(element("path", d=f"M4 {y(even)}H{wide - 4}", class_="event"))
    content.append(element("polyline", points=line, class_="line s1 faint"))
    for x, step in zip(xs, steps, strict=True):
        bottom, top = y(max(step.low, 0.0)), y(min(step.high, most))
        content += [
            element("path", d=f"M{x} {bottom}V{top}M{x - 4} {bottom}h8M{x - 4} {top}h8",
                    class_="whisker"),
            element("circle", element("title", step.tip), cx=x, cy=y(step.value), r=4,
                    class_=f"dot s{step.colour}"),
            element("text", step.name, x=x, y=high - 2, class_="axis middle"),
        ]  # fmt: skip
    return element("svg", content, viewBox=f"0 0 {wide} {high}", class_="steps", role="img")


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values that enclose [low, high], about so many."""
    size = max(abs(low), abs(high), TINY)
    if high - low <= 1e-9 * size:
        low, high = low - size / 2, high + size / 2
    rough = (high - low) / max(about - 1, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def axis_label(value: float, ticks: Sequence[float]) -> str:
    """A tick's label in the unit of its axis: all in M, all in k, or all plain."""
    most = max(map(abs, ticks))
    for scale, unit in ((1e6, "M"), (1e4, "k")):
        if most >= scale:
            return f"{value / (1e3 if unit == 'k' else scale):g} {unit}" if value else "0"
    return f"{value:,g}"


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` points: means of equal runs, the last point kept as it is."""
    if len(points) <= MOST_POINTS:
        return list(points)
    run = math.ceil(len(points) / (MOST_POINTS - 1))
    groups = [points[i : i + run] for i in range(0, len(points) - 1, run)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return [*means, points[-1]]


def smooth(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Running means over the last ``window`` points."""
    found: list[tuple[float, float]] = []
    total = 0.0
    for i, (x, y) in enumerate(points):
        total += y - (points[i - window][1] if i >= window else 0.0)
        found.append((x, total / min(i + 1, window)))
    return found


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that can be drawn: neither NaN nor beyond ``HUGE``."""
    return [(x, y) for x, y in points if abs(x) <= HUGE and abs(y) <= HUGE]


def _y_tick(value: float, y: _Scale, shown: str) -> Html:
    at = y(value)
    return join(
        element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"),
        element("text", shown, x=LEFT - 8, y=at + 4, class_="axis end"),
    )


def _x_tick(value: float, x: _Scale, shown: str) -> Html:
    at, base = x(value), HEIGHT - BOTTOM
    return join(
        element("line", x1=at, x2=at, y1=base, y2=base + 4, class_="tick"),
        element("text", shown, x=at, y=base + 17, class_="axis middle"),
    )


def _event(event: Event, x: _Scale, x_label: str) -> Html:
    """A line across the chart, with a mark on top that is easy to point at."""
    at, base = x(event.x), HEIGHT - BOTTOM
    tip = element("title", f"{event.what} at {compact(event.x)} {x_label}")
    path = f"M{at} {base}V{TOP}M{at - 5} {TOP - 8}L{at} {TOP}L{at + 5} {TOP - 8}Z"
    return element("path", tip, d=path, class_="event")


def _line(series: Series, x: _Scale, y: _Scale) -> Html:
    points = " ".join(f"{x(a)},{y(b)}" for a, b in series.points)
    look = f"line s{series.colour}" + (" faint" if series.faint else "")
    return element("polyline", points=points, class_=look)


def _dots(series: Series, x: _Scale, y: _Scale, x_label: str) -> Html:
    """Places that show their values when pointed at, visible where there are few."""
    every = max(1, math.ceil(len(series.points) / TOOLTIPS))
    picked = [p for i, p in enumerate(series.points) if (len(series.points) - 1 - i) % every == 0]
    look = f"dot s{series.colour}" + ("" if series.dots else " hidden")
    return join(
        element(
            "circle",
            element("title", f"{series.name}: {b:.4g} at {compact(a)} {x_label}"),
            cx=x(a),
            cy=y(b),
            r=3 if series.dots else 6,
            class_=look,
        )
        for a, b in picked
    )


def _legend(series: Sequence[Series], events: Sequence[Event]) -> Html:
    named = [s for s in series if s.name and not s.faint]
    keys = [
        element("span", element("i", class_=f"key c{s.colour}"), s.name, class_="entry")
        for s in named
    ]
    if events:
        what = events[0].what.split(",")[0]
        keys.append(element("span", element("i", class_="key lost"), what, class_="entry"))
    elif len(named) < 2:
        return Html("")
    return element("span", keys, class_="legend")
