"""Cells that tables of evaluations share: a figure with its interval, an answer with its mark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fledge.report.html import Html, element, join, term
from fledge.report.svg import interval_bar
from fledge.report.words import TASKS, name, percent


def told(entry: Mapping[str, Any], task: str) -> str:
    """A value with its interval in words."""
    low, high = entry["ci95"]
    between = f"{shown(task, low)} to {shown(task, high)}"
    return f"{shown(task, entry['value'])}, 95 % interval {between}, n = {entry['n']}"


def measure(entry: Mapping[str, Any] | None, task: str, colour: int, most: float) -> Html:
    if entry is None:
        return element("span", "–", class_="quiet")
    low, high = entry["ci95"]
    value, between = shown(task, entry["value"]), f"{shown(task, low)} to {shown(task, high)}"
    tip = told(entry, task)
    bar = interval_bar(entry["value"], low, high, tip=tip, colour=colour, most=most)
    return element(
        "span", element("b", value), bar, element("small", between), class_="measure", title=tip
    )


def shown(task: str, value: float) -> str:
    return f"{value:.3f}" if task == "bits_per_byte" else percent(value)


def title(task: str) -> Html:
    return term(*TASKS.get(task, (name(task), "")))


def answer(row: Mapping[str, Any] | None, lang: str | None) -> Html:
    if row is None:
        return element("span", "–", class_="quiet")
    mark = ("✓", "good", "right") if row["correct"] else ("✗", "bad", "wrong")
    said = row["answer"] or f"(nothing: {row.get('finish_reason', '')})"
    sign = element("span", mark[0], class_=f"mark {mark[1]}", title=mark[2])
    return join(sign, element("span", said, lang=lang, class_="said", title=said))
