"""``fledge rag``: compare ways of retrieving, find needles, calibrate an index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fledge.cli.grounded import grounding, opened_model, retrieval_of, retrieval_options
from fledge.cli.index_folder import INDEX
from fledge.cli.progress import terminal_progress

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(file_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")


@click.group("rag")
def command() -> None:
    """Measure how well your documents are found, and how well answers rest on them."""


@command.command("strategies")
def strategies() -> None:
    """The ways of retrieving, by name."""
    from fledge.rag.strategies import STRATEGIES

    for one in STRATEGIES.values():
        needs = [name for name, needed in (("an embedder", one.embedder),
                 ("a language model", one.model)) if needed]  # fmt: skip
        click.echo(f"{one.name:<12} {one.about}" + (f" (needs {needs[0]})" if needs else ""))


@command.command("compare")
@click.option("--input", "inputs", multiple=True, required=True, metavar="PATH",
              help="Documents, as fledge index build takes them.")  # fmt: skip
@click.option("--questions", type=FILE, required=True, help="JSONL: question, document, start, end"
              " or answer.")  # fmt: skip
@click.option("--out", type=OUT, required=True, help="compare.json, compare.html, the indexes.")
@click.option("--embedder", default="none", show_default=True, metavar="SPEC",
              help="What makes vectors; none: words only.")  # fmt: skip
@click.option("--model", "spec", metavar="DIR|URL", help="For strategies that ask one.")
@click.option("--strategies", default="", metavar="A,B", help="Default: all that can run.")
@click.option("--sizes", default="200", show_default=True, metavar="N,N", help="Tokens a chunk.")
@click.option("--windows", default="2", show_default=True, metavar="N,N", help="Sentences.")
@click.option("--ks", default="5", show_default=True, metavar="N,N", help="Passages.")
@click.option("--generate", is_flag=True, help="Have --model write the answers.")
@click.option("--limit", type=click.IntRange(min=1), help="Questions at most.")
@AS_JSON
def compare_door(
    inputs: Sequence[str], questions: Path, out: Path, spec: str | None, as_json: bool, **given: Any
) -> int:
    """Every strategy on a set of questions: quality with intervals, time by step, tokens."""
    from fledge.core.config import parse_config
    from fledge.core.files import write_json
    from fledge.index.config import IndexConfig
    from fledge.rag.compare import CompareConfig, compare
    from fledge.rag.pages import compare_page
    from fledge.rag.questions import read_questions

    model = opened_model(spec)
    values: dict[str, Any] = {
        name: _numbers(given[name], f"--{name}") for name in ("sizes", "windows", "ks")
    }
    if given["strategies"]:
        values["strategies"] = [name.strip() for name in given["strategies"].split(",")]
    values["answer"] = {"how": "generate" if given["generate"] and model else "extract"}
    config = parse_config(CompareConfig, values, "fledge rag compare")
    index = parse_config(
        IndexConfig, {"input": list(inputs), "embedder": given["embedder"]}, "fledge rag compare"
    )
    asked = read_questions(questions)[: given["limit"]]
    rows, left_out = compare(
        config, index, asked, out / "indexes", model=model, progress=terminal_progress()
    )
    told = [row.to_json() for row in rows]
    write_json(out / "compare.json", {"rows": told, "left_out": left_out})
    page = compare_page(rows, left_out, len(asked))
    (out / "compare.html").write_text(page, encoding="utf-8")
    for row in told:
        click.echo(json.dumps(row, ensure_ascii=False) if as_json else _line(row))
    if not as_json:
        for name, why in left_out.items():
            click.echo(f"{name}: left out, it {why}")
        click.echo(f"{out / 'compare.html'}")
    return 0


def _numbers(text: str, option: str) -> list[int]:
    from fledge.core.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text!r}: not numbers", remedy="like 100,200,400") from None


def _line(row: dict[str, Any]) -> str:
    """A row for people."""
    window = "" if row["window"] is None else f" ±{row['window']}"
    name = f"{row['strategy']}{window}, {row['size']} tokens, k {row['k']}"
    parts = [
        f"{key} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for key, one in row["quality"].items()
        if key in ("hit@1", "hit@k", "mrr", "answer", "declined")
    ]
    cited = row["citations"]
    time = row["milliseconds"]["all"]
    return (
        f"{name:<34} {'  '.join(parts)}  p50 {time['p50']:.1f} ms, p95 {time['p95']:.1f} ms,"
        f" {row['tokens']['context']:,.0f} tokens, citations {cited['exact']}/{cited['shown']}"
    )


@command.command("needle")
@click.option("--model", "spec", metavar="DIR|URL", help="Test its own context, not retrieval.")
@click.option("--out", type=OUT, required=True, help="needle.json and needle.html.")
@click.option("--hay", type=FILE, help="A text of your own; default: invented sentences.")
@click.option("--embedder", default="none", show_default=True, metavar="SPEC",
              help="Of retrieval; none: words only.")  # fmt: skip
@click.option("--lengths", default="500,1000,2000,4000", show_default=True, metavar="N,N",
              help="Tokens of the texts.")  # fmt: skip
@click.option("--depths", default="0,25,50,75,100", show_default=True, metavar="%,%",
              help="Where the needle is: 0 first, 100 last.")  # fmt: skip
@click.option("--languages", default="en,zh", show_default=True, help="en, zh or both.")
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True,
              help="Needles for each length and depth.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Invents other needles.")
@AS_JSON
def needle_door(spec: str | None, out: Path, hay: Path | None, as_json: bool, **given: Any) -> int:
    """Needle in a haystack: is one sentence found at each depth of texts of each length?"""
    from fledge.core.config import parse_config
    from fledge.core.files import write_json
    from fledge.rag.needle import NeedleConfig, needle_grids
    from fledge.rag.pages import needle_page

    values: dict[str, Any] = {
        "lengths": _numbers(given["lengths"], "--lengths"),
        "depths": [depth / 100 for depth in _numbers(given["depths"], "--depths")],
        "languages": [name.strip() for name in given["languages"].split(",")],
        **{name: given[name] for name in ("repeats", "seed", "embedder")},
    }
    config = parse_config(NeedleConfig, values, "fledge rag needle")
    own = hay.read_text(encoding="utf-8") if hay else ""
    grids = needle_grids(config, model=opened_model(spec), own=own, progress=terminal_progress())
    write_json(out / "needle.json", {"grids": [grid.to_json() for grid in grids]})
    (out / "needle.html").write_text(needle_page(grids), encoding="utf-8")
    for grid in grids:
        if as_json:
            click.echo(json.dumps(grid.to_json(), ensure_ascii=False))
            continue
        click.echo(f"{grid.language}, {grid.mode}: {grid.share:.1%} found")
        click.echo(f"{'tokens':>8}  " + " ".join(f"{depth:>5.0%}" for depth in grid.depths))
        for length, row in zip(grid.lengths, grid.found, strict=True):
            click.echo(f"{length:>8,}  " + " ".join(f"{value:>5.0%}" for value in row))
        for note, count in grid.notes.items():
            click.echo(f"{count} x {note}")
    return 0


@command.command("calibrate")
@click.argument("folder", metavar="DIR", type=INDEX)
@click.argument("questions", type=FILE)
@retrieval_options
@AS_JSON
def calibrate(folder: Path, questions: Path, as_json: bool, **given: Any) -> int:
    """Fit DIR's weights of its searches, and when to say "not in your documents", on QUESTIONS.

    Questions with an answer are asked a second time with the chunks that hold it taken away.
    Half of the documents fit, the other half tell how good the fit is; then all fit.
    """
    from fledge.rag.calibration import Calibration, calibrate_fusion, calibrate_support, weigh
    from fledge.rag.questions import check_documents, read_questions

    asked = read_questions(questions)
    retrieval = retrieval_of(given["strategy"], given["count"], given["overrides"])
    progress = terminal_progress()
    with (
        grounding(folder, None, given["reranker"]) as ground,
        ground.store.snapshot() as snapshot,
    ):
        check_documents(asked, snapshot)
        retriever = ground.retriever(retrieval)
        weights = dict(ground.calibration.weights)
        if ground.embedder.dimensions:
            with progress.bar("weights", len(asked), "questions") as bar:
                weights |= calibrate_fusion(retriever, snapshot, asked, each=bar.advance)
        answerer = ground.answerer(retriever.with_weights(weights).config)
        with progress.bar("support", len(asked), "questions") as bar:
            rows = weigh(answerer, snapshot, asked, each=bar.advance)
        support = calibrate_support(rows)
    Calibration(weights=weights, support={**ground.calibration.support, **support}).write(folder)
    told: dict[str, Any] = {
        "weights": {name: one.model_dump() for name, one in weights.items()},
        "support": _told(rows, list(support)),
    }
    if as_json:
        click.echo(json.dumps(told))
        return 0
    for name, one in weights.items():
        click.echo(f"{name}: dense {one.dense:.1f}, lexical {one.lexical:.1f}")
    for kind, curve in told["support"].items():
        click.echo(f"{kind}: on documents it was not fitted on")
        for point in curve:
            click.echo(
                f"  refuses {point['right_refusals']:.1%} of what is not there"
                f" and {point['wrong_refusals']:.1%} of what is"
            )
    if not support:
        click.echo("support: too few questions of both kinds; the weights that come with fledge")
    return 0


def _told(rows: Sequence[Any], kinds: Sequence[str]) -> dict[str, Any]:
    """Operating points on the half of the documents that a fit on the other half has not seen."""
    from fledge.rag.calibration import halves
    from fledge.rag.support import fit, operating_curve

    found: dict[str, Any] = {}
    for kind in kinds:
        ours, others = halves([row for row in rows if row.kind == kind and not row.missed])
        if len({row.answered for row in ours}) < 2 or len({row.answered for row in others}) < 2:
            continue
        model = fit([(row.measures, row.answered) for row in ours])
        scores = [(model.probability(row.measures), row.answered) for row in others]
        present = [score for score, answered in scores if answered]
        absent = [score for score, answered in scores if not answered]
        found[kind] = [vars(point) for point in operating_curve(present, absent)]
    return found
