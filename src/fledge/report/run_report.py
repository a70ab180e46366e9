"""A run directory in, ``report.html`` (one file, opens offline) and ``report.json`` out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fledge.core.files import write_json, write_text
from fledge.report.corpus_section import corpus_section
from fledge.report.gather import RunFiles, details, read_run
from fledge.report.ground_section import ground_section
from fledge.report.html import Html, element, join, term
from fledge.report.ladder_section import answers_section, ladder_section
from fledge.report.model_section import tokenizer_section
from fledge.report.origin_section import origin_section, timings_section
from fledge.report.overview import headline, pipeline
from fledge.report.training_section import training_section

PAGE = "report.html"
REPORT = "report.json"


def write_report(run: Path) -> Path:
    """Write both files into the run directory, finished or not; returns the page's path.

    ``report.json`` is ``{"figures": {name: number}, "stages": {name: details}}``.  Raises
    InputError when ``run`` holds no stage of a run.
    """
    found = read_run(run)
    figures = found.figures()
    write_json(run / REPORT, {"run": found.name, "figures": figures, "stages": details(found)})
    write_text(run / PAGE, render(found, figures))
    return run / PAGE


def render(run: RunFiles, figures: dict[str, float]) -> str:
    """The page as HTML text."""
    sections = (
        ("pipeline", "From pages to the assistant", "流程", pipeline(run)),
        ("ladder", "Evaluation ladder", "评测阶梯", ladder_section(run)),
        ("answers", "Answers", "回答样例", answers_section(run)),
        *_optional("ground", "Documents that answer", "文档问答", ground_section(run)),
        ("corpus", "Corpus", "语料", corpus_section(run)),
        ("tokenizer", "Tokenizer", "分词器", tokenizer_section(run)),
        ("training", "Training", "训练", training_section(run)),
        ("time", "Time", "用时", timings_section(run)),
        ("origin", "Reproduce it", "复现", origin_section(run, figures)),
    )
    style = files("fledge.report").joinpath("page.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{run.name} · fledge report"),
        element("style", Html(style)),
    )
    body = element(
        "body",
        element("header", element("p", "fledge report", class_="kicker"),
                element("h1", run.name), headline(run, figures)),
        _navigation(sections),
        element("main", [_section(*section) for section in sections]),
        element("footer", "Written by fledge from the files of this run; nothing is loaded from"
                " elsewhere. The same numbers for machines: report.json."),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _optional(
    anchor: str, english: str, chinese: str, content: Html | None
) -> list[tuple[str, str, str, Html | None]]:
    """A section that only some runs have."""
    return [] if content is None else [(anchor, english, chinese, content)]


def _navigation(sections: Sequence[tuple[str, str, str, Html | None]]) -> Html:
    links = [element("a", title, href=f"#{anchor}") for anchor, title, _, _ in sections]
    return element("nav", links, aria_label="Sections")


def _section(anchor: str, english: str, chinese: str, content: Html | None) -> Html:
    title = element("h2", term(english, chinese))
    shown = content or element("p", "Not run yet. 尚未运行", class_="quiet")
    return element("section", join(title, shown), id=anchor)
