"""What the documents answer: by quotation, and by a model that reads what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fledge.report.cells import answer, measure, title
from fledge.report.gather import RunFiles, StageFiles
from fledge.report.html import Html, Number, element, join, table, term
from fledge.report.words import count, percent

UNSEEN = {
    "unseen": ("Bridges that only documents tell of: quoted", "仅见于文档的桥梁：引用原句"),
    "unseen_read": ("… read by the model, with citations", "……由模型阅读并注明出处"),
    "unanswerable_read": (
        "Nobody knows: declined by the model that reads",
        "无人知晓：模型阅读后拒答",
    ),
    "unseen_alone": ("… the model without documents", "……模型没有文档"),
}
"""Sets of questions about what no model of the run was trained on."""

UNSEEN_HEADS = {
    "unseen": "Quoted", "unseen_read": "Read by the model", "unseen_alone": "Model alone",
}  # fmt: skip

SHOWN = 8
"""Questions shown with all their answers."""


def ground_section(run: RunFiles) -> Html | None:
    """The table of sets, and answers about bridges that only documents tell of."""
    stage = run.stage("ground")
    summary = stage.json("answers/summary.json") if stage else None
    if stage is None or not isinstance(summary, dict) or not summary["tasks"]:
        return None
    exact = run.figures().get("ground.citations_exact")
    note = "The clean documents of this run as an index. Questions of the ladder are answered by"
    note += " sentences that are quoted, without a model."
    if exact is not None:
        note += f" {count(summary['citations'])} citations were compared with their documents:"
        note += f" {percent(exact)} stand there to the character."
    if "unseen_alone" in summary["tasks"]:
        note += " No model of this run was trained on the bridges that only documents tell of:"
        note += " without documents a decline, though counted as not right, is the honest answer."
    rows = [_row(name, figures) for name, figures in summary["tasks"].items() if figures]
    heads = ["Questions", Number("n"), "Answered rightly", Number("Declined")]
    return join(
        element("p", note), table(heads, rows, class_="split"), _answers(stage, summary["tasks"])
    )


def _row(name: str, figures: list[Mapping[str, Any]]) -> list[Html | str]:
    entry = figures[0]
    declined = next((one["value"] for one in figures if one["metric"] == "over_refusal"), None)
    heading = term(*UNSEEN[name]) if name in UNSEEN else title(name)
    colour = 1 + list(UNSEEN).index(name) if name in UNSEEN else 5
    bar = measure(entry, name, colour, 1.0)
    return [heading, count(entry["n"]), bar, "" if declined is None else percent(declined)]


def _answers(stage: StageFiles, tasks: Mapping[str, Any]) -> Html | None:
    """Some questions about unseen bridges, evenly spread, with what each way answered."""
    ways = [name for name in UNSEEN_HEADS if name in tasks]
    found = {name: stage.rows(f"answers/{name}.jsonl") for name in ways}
    asked = found.get("unseen", [])
    if not asked:
        return None
    step = max(1, len(asked) // SHOWN)
    by_id = {name: {row["id"]: row for row in rows} for name, rows in found.items()}
    body = []
    for row in asked[::step][:SHOWN]:
        lang = row.get("language") or None
        told = [element("span", text, lang=lang) for text in (row["question"], row["target"])]
        body.append([*told, *(answer(by_id[name].get(row["id"]), lang) for name in ways)])
    heads = ["Question", "Expected", *(UNSEEN_HEADS[name] for name in ways)]
    shown = table(heads, body, class_="answers")
    return element(
        "details", element("summary", term("Some answers", "回答样例")), shown, open=True
    )
