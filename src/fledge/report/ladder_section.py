"""The evaluation ladder: every rung on the same questions, with intervals; answers to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fledge.report.cells import answer, measure, shown, title, told
from fledge.report.gather import RunFiles, StageFiles
from fledge.report.html import Html, Number, element, join, table, term
from fledge.report.svg import Step, step_chart
from fledge.report.words import (
    EVEN,
    LOWER_IS_BETTER,
    TASKS,
    count,
    language,
    name,
    percent,
    rung,
)

SHOWN = 4
"""Right answers, and wrong ones, shown of each set."""

MANY = 3
"""With more rungs than this the table is drawn narrower."""

COLOURS = (5, 1, 3, 4, 6, 2)

Tasks = Mapping[str, Any]


def ladder_section(run: RunFiles) -> Html | None:
    """The table of all rungs, then the highest rung by attribute."""
    rungs = _rungs(run)
    if not rungs:
        return None
    first = next((r for r in rungs if r["form"] == "plain"), None)
    note = (
        "Every model got the same questions and wrote its likeliest answer (greedy). Whiskers are"
        " 95\u00a0% intervals (Wilson for shares, bootstrap over documents for bits per byte)."
    )
    if first:
        note += (
            f" {rung(first['rung'])} never saw a chat; it was asked in plain text"
            " (“Question: … / Answer:”), without examples, so that the comparison is fair."
        )
    return join(
        element("p", note),
        _plots(rungs) if len(rungs) > 1 else None,
        _ladder(rungs),
        element("p", "A right answer states the value and no other one. ↓ lower is better. Wins"
                " are counted on the prompts that both rungs answered, judged in both orders; a"
                " tie counts half, so 50\u00a0% means that nothing changed.", class_="quiet"),
        *[_by(rungs, key, english, chinese) for key, english, chinese in (
            ("by_attribute", "By attribute", "按属性"),
            ("by_language", "By language", "按语言"),
        )],
    )  # fmt: skip


def _rungs(run: RunFiles) -> list[dict[str, Any]]:
    stage = run.stage("evals")
    summary = stage.json("summary.json") if stage else None
    return list(summary["rungs"]) if isinstance(summary, dict) else []


def _task_names(rungs: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {task for r in rungs for task in r["tasks"]}
    return [*[t for t in TASKS if t in found], *sorted(found - set(TASKS))]


def _plots(rungs: Sequence[Mapping[str, Any]]) -> Html:
    """One small chart a task that has a figure of at least two rungs."""
    names = [task for task in _task_names(rungs) if sum(task in r["tasks"] for r in rungs) > 1]
    return element("div", [_plot(task, rungs) for task in names], class_="plots")


def _plot(task: str, rungs: Sequence[Mapping[str, Any]]) -> Html:
    steps = [
        Step(
            name=rung(r["rung"]),
            value=r["tasks"][task]["value"],
            low=r["tasks"][task]["ci95"][0],
            high=r["tasks"][task]["ci95"][1],
            tip=f"{rung(r['rung'])}: {told(r['tasks'][task], task)}",
            colour=COLOURS[i % len(COLOURS)],
        )
        for i, r in enumerate(rungs)
        if task in r["tasks"]
    ]
    arrow = " ↓" if task in LOWER_IS_BETTER else ""
    even = 0.5 if task in EVEN else None
    caption = element(
        "figcaption", title(task), arrow, " ", element("b", shown(task, steps[-1].value))
    )
    return element("figure", caption, step_chart(steps, most=_most(task, rungs), even=even))


def _ladder(rungs: Sequence[Mapping[str, Any]]) -> Html:
    rows = []
    for task in _task_names(rungs):
        arrow = " ↓" if task in LOWER_IS_BETTER else ""
        most = _most(task, rungs)
        cells = [
            measure(r["tasks"].get(task), task, COLOURS[i % len(COLOURS)], most)
            for i, r in enumerate(rungs)
        ]
        number = next((r["tasks"][task]["n"] for r in rungs if task in r["tasks"]), 0)
        rows.append([join(title(task), arrow), count(number), *cells])
    heads = ["Task", Number("n"), *[_rung_head(r) for r in rungs]]
    return table(heads, rows, class_="ladder many" if len(rungs) > MANY else "ladder")


def _rung_head(entry: Mapping[str, Any]) -> Html:
    form = "asked in plain text" if entry["form"] == "plain" else "asked as a chat"
    return join(rung(entry["rung"]), " ", element("span", form, class_="quiet"))


def _most(task: str, rungs: Sequence[Mapping[str, Any]]) -> float:
    """The end of the bars' scale: 1 for shares."""
    if task != "bits_per_byte":
        return 1.0
    return 1.05 * max(float(r["tasks"][task]["ci95"][1]) for r in rungs if task in r["tasks"])


def _by(rungs: Sequence[Mapping[str, Any]], key: str, english: str, chinese: str) -> Html | None:
    """The tasks of the highest rung split by ``key``: those of like parts in one table."""
    tasks: Tasks = rungs[-1]["tasks"]
    split = {t: tasks[t][key] for t in _task_names(rungs[-1:]) if len(tasks[t].get(key, {})) > 1}
    if not split:
        return None
    title = element("h3", term(f"{english}, {rung(rungs[-1]['rung'])}", chinese))
    facts = {task: parts for task, parts in split.items() if task.startswith("facts_")}
    alone = [_parts(task, parts, key) for task, parts in split.items() if task not in facts]
    return join(title, _together(facts) if facts else None, alone)


def _together(split: Mapping[str, Mapping[str, Any]]) -> Html:
    """Attributes down, tasks across, shares as shaded cells."""
    rows = dict.fromkeys(part for parts in split.values() for part in parts)
    heads = ["Attribute", *[title(task) for task in split]]
    cells = [[name(row), *[_small(parts.get(row)) for parts in split.values()]] for row in rows]
    return table(heads, cells, class_="split")


def _parts(task: str, parts: Mapping[str, Any], key: str) -> Html:
    label = language if key == "by_language" else name
    rows = [[label(part), count(parts[part]["n"]), measure(parts[part], task, 1, _top(task, parts))]
            for part in parts]  # fmt: skip
    heads = ["Part", Number("n"), "Bits per byte" if task == "bits_per_byte" else "Share right"]
    shown = table(heads, rows, class_="split")
    return element("details", element("summary", title(task)), shown)


def _top(task: str, parts: Mapping[str, Any]) -> float:
    if task != "bits_per_byte":
        return 1.0
    return 1.05 * max(float(part["ci95"][1]) for part in parts.values())


def _small(entry: Mapping[str, Any] | None) -> Html:
    """A share as a shaded cell."""
    if entry is None:
        return element("span", "–", class_="quiet")
    low, high = entry["ci95"]
    return element(
        "span",
        percent(entry["value"], 0),
        element("small", f" n={entry['n']}"),
        class_="heat",
        style=f"--share:{entry['value']:.3f}",
        title=f"95 % interval {percent(low)} to {percent(high)}",
    )


def answers_section(run: RunFiles) -> Html | None:
    """Right and wrong answers of the highest rung, beside what lower rungs said."""
    stage, rungs = run.stage("evals"), _rungs(run)
    if stage is None or not rungs:
        return None
    last = rungs[-1]["rung"]
    names = [t for t in _task_names(rungs) if "by_attribute" in rungs[-1]["tasks"].get(t, {})]
    blocks = [
        block for task in names if (block := _answers(stage, rungs, task, first=task == names[0]))
    ]
    if not blocks:
        return None
    note = (
        f"From each set up to {SHOWN} right and {SHOWN} wrong answers of {rung(last)}, evenly"
        f" spread over the set, not picked by hand. All of them: evals/{last}/<set>.jsonl."
    )
    return join(element("p", note, class_="quiet"), blocks)


def _answers(
    stage: StageFiles, rungs: Sequence[Mapping[str, Any]], task: str, *, first: bool
) -> Html | None:
    rows = stage.rows(f"{rungs[-1]['rung']}/{task}.jsonl")
    lower = [(r["rung"], {row["id"]: row for row in stage.rows(f"{r['rung']}/{task}.jsonl")})
             for r in rungs[:-1]]  # fmt: skip
    if not rows:
        return None
    right = [row for row in rows if row["correct"]]
    wrong = [row for row in rows if not row["correct"]]
    heads = ["Question", "Expected", *[rung(r["rung"]) for r in rungs]]
    body = [_answer_row(row, lower) for row in [*_spread(wrong), *_spread(right)]]
    summary = element(
        "summary",
        title(task),
        element("span", f" {count(len(right))} right, {count(len(wrong))} wrong", class_="quiet"),
    )
    return element("details", summary, table(heads, body, class_="answers"), open=first)


def _answer_row(
    row: Mapping[str, Any], lower: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]]
) -> list[Html]:
    lang = row.get("language") or None
    expected = row["target"] or "(declines 拒答)"
    before = [answer(answers.get(row["id"]), lang) for _, answers in lower]
    return [
        element("span", row["question"], lang=lang),
        element("span", expected, lang=lang),
        *before,
        answer(row, lang),
    ]


def _spread(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most ``SHOWN`` rows, evenly spread."""
    if len(rows) <= SHOWN:
        return list(rows)
    return [rows[i * len(rows) // SHOWN] for i in range(SHOWN)]
