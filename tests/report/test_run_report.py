"""The report of a run: complete, escaped, self-contained, and possible at any moment."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fledge.cli.report import command
from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json, write_jsonl, write_text
from fledge.core.run import Outcome, StageFolder
from fledge.report import write_report

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "line", "rect", "circle", "path", "polyline"}


class Balance(HTMLParser):
    """Checks that tags close in order; collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(path: Path) -> Balance:
    page = Balance()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def finish(run: Path, name: str, outcome: Outcome, seconds: float = 2.0) -> Path:
    place = StageFolder(run, name)
    place.begin("key")
    _fill(place.partial, name)
    place.finish(name, Config(), {"before": "abc123"}, outcome, seconds)
    return place.final


def _fill(folder: Path, name: str) -> None:
    writer = {"corpus": _corpus, "tokenizer": _tokenizer, "pretrain": _training, "evals": _evals,
              "ground": _ground}  # fmt: skip
    if name in writer:
        writer[name](folder)


def _corpus(folder: Path) -> None:
    sample = {"source": "web.warc", "url": "http://a.example/", "evidence": EVIL, "text": EVIL}
    leak = {**sample, "evidence": "AKIA-LEAKED", "text": "password hunter2"}
    stats = {
        "records": 10, "kept": 6, "raw_bytes": 5000, "bytes": 900, "documents": 6,
        "dropped": {"quality.spam": 3, "secret.leak": 1}, "languages": {"en": 4, "zh-Hans": 2},
        "language_bytes": {"en": 600, "zh-Hans": 300}, "masked": 2, "mended": 1,
        "splits": {"train": {"documents": 5, "bytes": 800}},
        "steps": [{"step": "quality", "in": 10, "out": 6}],
        "samples": {"quality.spam": [sample], "secret.leak": [leak]},
        "figures": {"corpus.extraction_f1": 0.97},
        "truth": {
            "pages": 10,
            "missing": 1,
            "drops": {"spam": {"precision": None, "recall": 0.5, "relevant": 2, "selected": 0}},
        },
    }  # fmt: skip
    write_json(folder / "stats.json", stats)
    write_json(folder / "logs" / "seconds.json", {"quality": 1.5})


def _tokenizer(folder: Path) -> None:
    text = f"a桥{EVIL}"
    tokens = [[5, 0, 1], [6, 1, 2], [7, 1, 2], [8, 2, len(text)]]
    report = {
        "vocab_size": 400,
        "bytes_per_token": {"en": 3.5, "zh-Hans": 2.5},
        "examples": [{"lang": "en", "text": text, "tokens": tokens}],
    }
    write_json(folder / "report.json", report)


def _training(folder: Path) -> None:
    write_jsonl(
        folder / "loss.jsonl", [{"step": i, "tokens": i * 9, "loss": 5 / i} for i in range(1, 50)]
    )
    write_jsonl(folder / "validation.jsonl", [{"step": 49, "tokens": 441, "bits_per_byte": 1.5}])
    metrics = [{"step": 10, "lr": 0.01, "grad_norm": 0.5, "tokens_per_second": 9000.0}]
    write_jsonl(folder / "logs" / "metrics.jsonl", metrics)


def _evals(folder: Path) -> None:
    rungs = []
    for rung, form, right in (("base", "plain", False), ("sft", "chat", True)):
        rows = [
            {
                "id": f"q{i}", "language": "zh-Hant", "attribute": "opened", "question": "何時？",
                "target": "1937", "answer": f"{rung} 1937 {EVIL}" if i else "", "correct": right,
                "declined": False, "metric": "exact_match", "tokens": 3, "finish_reason": "stop",
            }
            for i in range(9)
        ]  # fmt: skip
        write_jsonl(folder / rung / "facts_zh_hant.jsonl", rows)
        figure = {"metric": "exact_match", "value": float(right), "ci95": [0.7, 1.0], "n": 9}
        split = {"opened": figure, "place": figure}
        tasks = {"facts_zh_hant": {**figure, "by_attribute": split, "by_language": {}}}
        density = {**figure, "metric": "bits_per_byte", "value": 1.25, "ci95": [1.0, 1.5]}
        languages = {"en": density, "zh-Hant": density}
        tasks["bits_per_byte"] = {**density, "by_language": languages}
        tasks["later_task"] = figure
        rungs.append({"rung": rung, "stage": rung, "form": form, "tasks": tasks})
    write_json(folder / "summary.json", {"rungs": rungs})


def _ground(folder: Path) -> None:
    tasks = {}
    for name, right in (("facts_en", True), ("unseen", True), ("unseen_read", True),
                        ("unanswerable_read", True), ("unseen_alone", False)):  # fmt: skip
        rows = [
            {"id": f"u{i}", "language": "en", "question": "When?", "target": "1931",
             "answer": f"{name} 1931 {EVIL}", "correct": right, "declined": False}
            for i in range(20)
        ]  # fmt: skip
        write_jsonl(folder / "answers" / f"{name}.jsonl", rows)
        figure = {"value": float(right), "ci95": [0.7, 1.0], "n": 20}
        declined = {"metric": "over_refusal", "value": 0.05, "ci95": [0.0, 0.2], "n": 20}
        tasks[name] = [{"metric": "exact_match", **figure}, declined]
    write_json(folder / "answers" / "summary.json", {"tasks": tasks, "citations": 77})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "<i>run&name"
    finish(run, "corpus", Outcome(counts={"records": 10}, figures={"corpus.extraction_f1": 0.97}))
    finish(run, "tokenizer", Outcome())
    finish(run, "pretrain", Outcome(figures={"base.bits_per_byte": 1.31}), seconds=30.5)
    figures = {"base.bits_per_byte": 1.25, "sft.facts_zh": 1.0, "sft.facts_en": 0.9}
    finish(run, "evals", Outcome(figures=figures), seconds=4.25)
    return run


def test_figures_are_flat_and_merged(run: Path) -> None:
    write_report(run)
    report = read_json(run / "report.json")
    figures = report["figures"]
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["base.bits_per_byte"] == 1.25  # the later stage measured it again
    assert figures["corpus.extraction_f1"] == 0.97
    assert figures["seconds.pretrain"] == 30.5
    assert figures["seconds.total"] == 2 + 2 + 30.5 + 4.25
    assert figures["peak_memory_bytes"] > 1e6
    assert report["stages"]["sft"]["state"] == "not run"
    assert report["stages"]["corpus"]["counts"] == {"records": 10}


def test_the_page_is_whole_escaped_and_needs_nothing_else(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = read_page(path)
    assert "script" not in page.tags
    assert EVIL in page.text
    assert run.name in page.text
    for key, value in page.attributes:
        assert key not in ("src", "srcset", "xlink:href", "onload", "onclick")
        assert key != "href" or value.startswith("#")
    css = re.search(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert css is not None
    assert "url(" not in css[1]
    assert "@import" not in css[1]


def test_what_a_reader_looks_for_is_there(run: Path) -> None:
    page = read_page(write_report(run))
    for words in (
        "quality: spam", "3 · 30.0", "Extraction, token F1", "0.9700", "Simplified Chinese",
        "2.50", "何時？", "1.250", "1.000 to 1.500", "later task", "30 s", "abc123",
        "9 right, 0 wrong", "(nothing: stop)", "base 1937", "not run",
    ):  # fmt: skip
        assert words in page.text, words
    titles = [value for key, value in page.attributes if key == "title"]
    assert "token 7" in titles


def test_every_task_of_several_rungs_has_a_small_plot(run: Path) -> None:
    summary = read_json(run / "evals" / "summary.json")
    higher = json.loads(json.dumps(summary["rungs"][1]))
    for name, value in (("honesty", 0.7), ("dpo", 0.4)):
        figure = {"metric": "win_rate", "value": value, "ci95": [value - 0.1, value + 0.1], "n": 50}
        tasks = {**higher["tasks"], "win_rate": figure}
        summary["rungs"].append({**higher, "rung": name, "stage": name, "tasks": tasks})
    write_json(run / "evals" / "summary.json", summary)
    page = read_page(write_report(run))
    plots = [value for key, value in page.attributes if key == "class" and value == "steps"]
    assert len(plots) == 4  # facts, bits per byte, the later task, wins
    for words in ("Honesty", "DPO", "DPO: 40.0 %, 95 % interval 30.0 % to 50.0 %, n = 50"):
        assert words in page.text.replace("\u00a0", " "), words
    assert ("class", "scroll ladder many") in page.attributes


def test_one_rung_has_no_plots(run: Path) -> None:
    summary = read_json(run / "evals" / "summary.json")
    write_json(run / "evals" / "summary.json", {"rungs": summary["rungs"][1:]})
    page = read_page(write_report(run))
    assert ("class", "steps") not in page.attributes


def test_leaked_secrets_are_not_repeated(run: Path) -> None:
    write_report(run)
    for name in ("report.html", "report.json"):
        text = (run / name).read_text(encoding="utf-8")
        assert "hunter2" not in text
        assert "AKIA" not in text


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    place = StageFolder(tmp_path / "run", "pretrain")
    out = place.begin("key")
    write_text(out / "loss.jsonl", '{"step": 1, "tokens": 9, "loss": 3.5}\n{"step": 2, "tok')
    page = read_page(write_report(tmp_path / "run"))
    assert "unfinished" in page.text
    assert "not run" in page.text
    assert "not finished" in page.text
    figures = read_json(tmp_path / "run" / "report.json")["figures"]
    assert figures == {"seconds.total": 0, "peak_memory_bytes": 0}


def test_a_stage_begun_again_is_shown_as_it_was_finished(run: Path) -> None:
    StageFolder(run, "evals").begin("another key")
    write_report(run)
    assert read_json(run / "report.json")["stages"]["evals"]["state"] == "done"


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.touch()])
def test_what_is_no_run_is_refused(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "x")
    with pytest.raises(InputError, match="x"):
        write_report(tmp_path / "x")


def test_the_door_prints_the_path_or_the_figures(run: Path) -> None:
    shown = CliRunner().invoke(command, [str(run)], catch_exceptions=False)
    assert shown.output == f"{run / 'report.html'}\n"
    as_json = CliRunner().invoke(command, [str(run), "--json"], catch_exceptions=False)
    assert json.loads(as_json.output) == read_json(run / "report.json")["figures"]


def test_what_documents_answer_is_shown_where_a_run_has_it(run: Path) -> None:
    assert "Documents that answer" not in read_page(write_report(run)).text
    finish(run, "ground", Outcome(counts={"documents": 3}, figures={"ground.citations_exact": 1.0}))
    page = read_page(write_report(run))
    assert "77 citations were compared with their documents: 100.0\u00a0%" in page.text
    assert page.text.count("unseen_read 1931") == 8
    assert "Model alone" in page.text
    assert "is the honest answer" in page.text
    assert "script" not in page.tags
