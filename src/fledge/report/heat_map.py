"""Rows and columns of shares in, an inline SVG heat map out, each field with its value."""

from __future__ import annotations

from collections.abc import Sequence

from fledge.report.html import Html, element, term

LEFT, TOP, FIELD_HEIGHT, WIDTH = 76, 24, 30, 500
LOW, HIGH = (179, 54, 43), (26, 127, 75)
"""Colours of 0 and 1, by way of a pale middle."""
MIDDLE = (246, 237, 200)


def heat_map(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    axes: tuple[str, str],
    chinese: str = "",
) -> Html:
    """Fields in [0, 1] from red to green.  ``axes``: what rows and what columns are."""
    if len(values) != len(rows) or any(len(row) != len(columns) for row in values):
        raise ValueError("a heat map needs a value for each row and column")
    width = (WIDTH - LEFT - 8) / max(len(columns), 1)
    content = [
        element("text", name, x=round(LEFT + (j + 0.5) * width, 1), y=TOP - 8, class_="axis middle")
        for j, name in enumerate(columns)
    ]
    for i, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = TOP + i * FIELD_HEIGHT
        content.append(element("text", name, x=LEFT - 8, y=y + 19, class_="axis end"))
        for j, value in enumerate(row):
            x = round(LEFT + j * width, 1)
            tip = f"{axes[0]} {name}, {axes[1]} {columns[j]}: {value:.0%}"
            content += [
                element("rect", element("title", tip), x=x, y=y, width=round(width - 2, 1),
                        height=FIELD_HEIGHT - 2, rx=2, fill=colour(value)),
                element("text", f"{value:.0%}", x=round(x + width / 2 - 1, 1), y=y + 19,
                        class_="axis middle", style=f"fill:{ink(value)}"),
            ]  # fmt: skip
    picture = element(
        "svg",
        element("title", f"{title}: {axes[0]} by {axes[1]}"),
        content,
        viewBox=f"0 0 {WIDTH} {TOP + len(rows) * FIELD_HEIGHT + 4}",
        role="img",
        class_="chart",
    )
    caption = element(
        "figcaption", term(element("b", title), chinese), f" · {axes[0]} down, {axes[1]} across"
    )
    return element("figure", caption, picture)


def colour(value: float) -> str:
    """From red by pale yellow to green."""
    value = min(max(value, 0.0), 1.0)
    low, high = (LOW, MIDDLE) if value < 0.5 else (MIDDLE, HIGH)
    share = value * 2 if value < 0.5 else value * 2 - 1
    mixed = (round(a + share * (b - a)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def ink(value: float) -> str:
    """What can be read on it."""
    return "#ffffff" if value < 0.2 or value > 0.85 else "#1c1f23"
