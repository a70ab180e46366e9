"""``fledge data synthesize`` and ``fledge data sample``: post-training data made with a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fledge.cli.progress import terminal_progress
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.files import file_digest, write_jsonl
from fledge.core.recipe import apply_override
from fledge.data.synthesis.asking import LANGUAGES
from fledge.data.synthesis.methods import METHODS

if TYPE_CHECKING:
    from fledge.core.protocols import ChatModel
    from fledge.data.sifting import Score
    from fledge.data.synthesis.rejection import Scorer
    from fledge.data.synthesis.run import Made

Door = TypeVar("Door", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--model", "spec", required=True, metavar="DIR|URL", help="A folder, or …/v1."),
    click.option("--api-key-file", type=click.Path(path_type=Path), help="Holds the key of a URL."),
    click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True),
    click.option("--count", type=click.IntRange(min=1), help="Items to make at most."),
    click.option("--language", type=click.Choice(LANGUAGES),
                 help="Of the prompts; default: en."),
    click.option("--seed", type=int, help="The same seed asks the same; default: 0."),
    click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True,
                 metavar="N", help="Tasks at a time, for a model behind a URL."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE"),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
)  # fmt: skip


def making_options(door: Door) -> Door:
    """Add the options that both commands have."""
    for option in reversed(_OPTIONS):
        door = option(door)
    return door


@click.command("synthesize")
@click.argument("method", type=click.Choice(METHODS))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    type=_FILE,
    metavar="FILE",
    help="Questions (JSONL); for personas and documents texts.",
)
@making_options
def synthesize(method: Any, inputs: tuple[Path, ...], **options: Any) -> None:
    """Make conversations by METHOD; a killed run goes on.  The rows are OUT/rows.jsonl."""
    from fledge.data.synthesis.config import SynthesisConfig
    from fledge.data.synthesis.methods import plan
    from fledge.data.synthesis.run import ROWS, Place, produce

    config = parse_config(SynthesisConfig, _values(options), "fledge data synthesize")
    model = _open(options["spec"], options["api_key_file"])
    todo = plan(method, inputs, model, config)
    parallel = _parallel(options, ordered=todo.accept is not None)
    place = Place(
        folder=options["out"],
        settings={"method": method, "model": model.name, **_inputs(inputs), **config.model_dump()},
        parallel=parallel,
    )
    made = produce(todo.tasks, todo.make, place, terminal_progress(), todo.accept)
    _report(made, {ROWS: sum(map(len, made.rows.values()))}, options)


@click.command("sample")
@click.option(
    "--prompts",
    "inputs",
    multiple=True,
    required=True,
    type=_FILE,
    metavar="FILE",
    help="Questions (JSONL), with or without answers.",
)
@click.option(
    "--by",
    type=click.Choice(["judge", "target", "majority"]),
    default="judge",
    show_default=True,
    help="Score by a judge, the known result, or the most frequent result.",
)
@click.option("--judge", metavar="DIR|URL", help="The model that scores; default: --model.")
@click.option("--answers", type=click.IntRange(min=2), help="Answers a prompt; default: 4.")
@making_options
def sample(
    inputs: tuple[Path, ...], by: str, judge: str | None, answers: int | None, **options: Any
) -> None:
    """Rejection sampling: OUT/best.jsonl to learn, OUT/pairs.jsonl of best against worst."""
    from fledge.data.synthesis.inputs import read_questions
    from fledge.data.synthesis.rejection import RejectionConfig, rejection
    from fledge.data.synthesis.run import Place, Task, drawn_inputs, numbered, produce

    values = _values(options) | ({"answers": answers} if answers is not None else {})
    if by != "judge":
        values.setdefault("min_score", 1.0)  # a wrong answer is not learnt for being the best
    config = parse_config(RejectionConfig, values, "fledge data sample")
    if judge is not None and by != "judge":
        raise InputError(f"--judge does not go with --by {by}", remedy="leave one of them out")
    model = _open(options["spec"], options["api_key_file"])
    scorer = _scorer(by, judge, model, options, config.language)
    questions = drawn_inputs(read_questions(inputs), config.count, config.seed)
    tasks = numbered([Task(key=one.origin, input=one) for one in questions])
    settings = {"method": "sample", "by": by, "judge": judge, "model": model.name}
    place = Place(
        folder=options["out"],
        settings={**settings, **_inputs(inputs), **config.model_dump()},
        parallel=_parallel(options, ordered=False),
    )
    made = produce(tasks, rejection(model, scorer, config), place, terminal_progress())
    rows = [row for found in made.rows.values() for row in found]
    written = {
        f"{name}.jsonl": write_jsonl(
            options["out"] / f"{name}.jsonl", (row[key] for row in rows if row[key] is not None)
        )
        for name, key in (("best", "best"), ("pairs", "pair"))
    }
    _report(made, written, options)


def open_judge(spec: str, api_key_file: Path | None, language: Any) -> Score:
    """The model ``spec`` as a judge: ``score(messages, answer)`` from 1 to 10."""
    return _judging(_open(spec, api_key_file), language)


def _judging(model: ChatModel, language: Any) -> Score:
    from fledge.core.protocols import Sampling
    from fledge.data.synthesis.judge import judge_score

    return judge_score(model, Sampling(max_new_tokens=400, seed=0), language)


def _open(spec: str, api_key_file: Path | None) -> ChatModel:
    from fledge.cli.chat import read_keys
    from fledge.client.open import open_model

    key = read_keys(api_key_file)[0] if api_key_file else ""
    return open_model(spec, api_key=key, progress=terminal_progress())


def _scorer(
    by: str, judge: str | None, model: ChatModel, options: dict[str, Any], language: Any
) -> Scorer:
    from fledge.data.synthesis.rejection import by_majority, by_score, by_target

    if by == "judge":
        own = judge is None or judge == options["spec"]
        scoring = model if own else _open(str(judge), options["api_key_file"])
        return by_score(_judging(scoring, language))
    return by_target if by == "target" else by_majority


def _values(options: dict[str, Any]) -> dict[str, Any]:
    """The configuration's values that options and ``--set`` give."""
    names = ("count", "language", "seed")
    values = {name: options[name] for name in names if options[name] is not None}
    for override in options["overrides"]:
        apply_override(values, override)
    return values


def _parallel(options: dict[str, Any], *, ordered: bool) -> int:
    """Tasks at a time; raises InputError where they have to wait for each other."""
    from fledge.client.open import is_url

    parallel: int = options["parallel"]
    if parallel > 1 and ordered:
        raise InputError(
            "--parallel: the tasks of self-instruct build on each other", remedy="leave it out"
        )
    if parallel > 1 and not is_url(options["spec"]):
        raise InputError("--parallel is for a model behind a URL", remedy="fledge serve, or 1")
    return parallel


def _inputs(files: Sequence[Path]) -> dict[str, Any]:
    return {"inputs": {str(file): file_digest(file) for file in files}}


def _report(made: Made, written: dict[str, int], options: dict[str, Any]) -> None:
    """Counts for people or as JSON."""
    told = {"out": str(options["out"]), **made.counts(), "written": written}
    if options["as_json"]:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for name, count in written.items():
        click.echo(f"{count:,} rows in {options['out'] / name}")
    for reason, count in told["unusable"].items():
        click.echo(f"  {count:>8,} tasks unusable: {reason}")
    if made.errors:
        click.echo(f"  {made.errors:>8,} tasks failed, the last: {made.last_error}")
        click.echo("  the same command tries these again")
