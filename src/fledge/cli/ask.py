"""``fledge ask``: an answer from an index, with citations that were checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fledge.cli.grounded import grounding, opened_model, retrieval_of, retrieval_options
from fledge.cli.index_folder import INDEX

if TYPE_CHECKING:
    from fledge.rag.answered import Answer, Citation


@click.command("ask")
@click.argument("folder", metavar="DIR", type=INDEX)
@click.argument("question")
@click.option("--model", "spec", metavar="DIR|URL", help="Writes the answer; without one the"
              " sentences that answer are shown as they stand.")  # fmt: skip
@click.option("--where", metavar="FILTER", help="lang = zh and meta.year >= 1999")
@retrieval_options
@click.option("--sentences", type=click.IntRange(1, 20), default=2, show_default=True,
              help="The most that are shown without a model.")  # fmt: skip
@click.option("--budget", type=click.IntRange(min=64), default=2048, show_default=True,
              help="Tokens of the model's prompt.")  # fmt: skip
@click.option("--short-rules", is_flag=True, help="For small models: passages and question alone.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Support below which the answer is"
              " not in your documents; default: calibrated.")  # fmt: skip
@click.option("--trace", is_flag=True, help="Tell each step's seconds and scores, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    folder: Path,
    question: str,
    spec: str | None,
    where: str | None,
    trace: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Answer QUESTION from the documents of DIR, and show where each sentence stands."""
    from fledge.index.store.where import parse_filter
    from fledge.rag.answer import AnswerConfig
    from fledge.rag.passage import Query
    from fledge.rag.room import fitted

    retrieval = retrieval_of(given["strategy"], given["count"], given["overrides"])
    model = opened_model(spec)
    config = AnswerConfig(
        how="extract" if model is None else "generate",
        sentences=given["sentences"],
        budget=given["budget"],
        rules="short" if given["short_rules"] else "full",
        threshold=given["threshold"],
    )
    asked = Query(text=question, where=None if where is None else parse_filter(where))
    with (
        grounding(folder, model, given["reranker"]) as ground,
        ground.store.snapshot() as snapshot,
    ):
        answer = ground.answerer(retrieval, fitted(config, model)).answer(snapshot, asked)
    if trace:
        _show_trace(answer)
    if as_json:
        click.echo(json.dumps(answer.to_json(), ensure_ascii=False))
        return 0
    click.echo(answer.text)
    for citation in answer.citations:
        click.echo(_line(citation))
    return 0


def _line(citation: Citation) -> str:
    """Where it stands, and the words, those that answer in bold."""
    place = f", {citation.place}" if citation.place else ""
    words, at = "", citation.span.start
    for start, end in citation.highlights:
        words += _plain(citation, at, start) + click.style(_plain(citation, start, end), bold=True)
        at = end
    words += _plain(citation, at, citation.span.end)
    shown = " ".join(words.split())
    return f"{citation.marker} {citation.path}{place}: “{shown}”"


def _plain(citation: Citation, start: int, end: int) -> str:
    """The document's text there, without characters that a terminal obeys."""
    from fledge.cli.chat import harmless

    first = citation.span.start
    return harmless(citation.quote[start - first : end - first])


def _show_trace(answer: Answer) -> None:
    click.echo(f"support {answer.support:.2f}", err=True)
    for stage in answer.trace:
        tokens = stage.prompt_tokens + stage.completion_tokens
        spent = f"  {tokens:,} tokens" if tokens else ""
        click.echo(
            f"{1000 * stage.seconds:9.2f} ms  {stage.name:<10} {stage.results:>5}{spent}", err=True
        )
        for note in stage.notes:
            click.echo(f"              {note}", err=True)
    for passage in answer.passages:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in passage.scores.items())
        span = passage.span
        click.echo(f"{passage.path} [{span.start}:{span.end}]  {scores}", err=True)
    for sentence in answer.dropped:
        click.echo(f"not borne out: {sentence}", err=True)
