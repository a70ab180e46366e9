"""``fledge label``: people write and rank answers; agreement and training rows come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fledge.core.errors import InputError

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("label")
def command() -> None:
    """Have people write and rank answers; tell how far they agree; export rows to train on."""


@command.command("serve")
@click.argument("tasks", nargs=-1, required=True, type=FILE)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder of tasks and labels; one that is there goes on.",
)
@click.option("--guidelines", type=FILE, help="A text shown beside every task.")
@click.option(
    "--each",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Annotators a task.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Shuffles the answers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: all addresses.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free."
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="Annotators must enter one of the keys in this file (one a line).",
)
def serve(tasks: tuple[Path, ...], out: Path, host: str, port: int, **options: Any) -> int:
    """Serve a page on which people label TASKS: prompts, answers to rank, preference files."""
    from fledge.cli.chat import read_keys
    from fledge.cli.serve import note_if_open
    from fledge.data.labelling.log import LabelLog
    from fledge.data.labelling.tasks import read_tasks
    from fledge.server.labelling import LabelConfig, create_label_app
    from fledge.server.listen import address, serve_app, take_port

    keys = read_keys(options["api_key_file"]) if options["api_key_file"] else ()
    config = LabelConfig(
        each=options["each"],
        seed=options["seed"],
        guidelines=_read(options["guidelines"]) if options["guidelines"] else "",
        api_keys=keys,
    )
    with take_port(host, port) as taken, LabelLog(out, read_tasks(tasks)) as log:
        note_if_open(taken, keys)
        ranked = sum(bool(task.answers) for task in log.tasks)

        def ready() -> None:
            click.echo(
                f"{ranked:,} tasks to rank, {len(log.tasks) - ranked:,} to write, "
                f"{len(log.labels):,} labels: {address(taken)}/  (Ctrl-C stops)"
            )

        return serve_app(create_label_app(log, config), taken, ready)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"--guidelines {path} is not UTF-8: {error}", remedy="re-encode it"
        ) from None


@command.command("stats")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def stats(folder: Path, as_json: bool) -> None:
    """Tell how far the annotators of DIR are, and how far they agree."""
    from fledge.data.labelling.log import read_folder
    from fledge.data.labelling.results import statistics

    told = statistics(*read_folder(folder))
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for line in _lines(told):
        click.echo(line)


def _lines(told: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    from fledge.cli.row_view import columns

    rank, write = told["tasks"]["rank"], told["tasks"]["write"]
    yield f"{rank:,} tasks to rank, {write:,} to write, {told['labelled']:,} labelled"
    if not told["annotators"]:
        return
    kinds = ("rank", "write", "skip", "seconds")
    rows = [
        [name, *("–" if one[kind] is None else f"{one[kind]:,}" for kind in kinds)]
        for name, one in told["annotators"].items()
    ]
    yield from columns([["annotator", "ranked", "written", "skipped", "seconds"], *rows])
    yield f"Krippendorff's alpha  {_figure(told['alpha'])}"
    for one in told["kappa"]:
        names = " and ".join(one["annotators"])
        yield f"Cohen's kappa  {_figure(one['kappa'])}  {names}, {one['pairs']:,} pairs"
    yield f"ties  {_figure(told['ties'])}"
    yield f"chosen answer stood first  {_figure(told['first_shown'])}  (0.5: no bias)"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


@command.command("export")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def export(folder: Path, out: Path, as_json: bool) -> None:
    """Write the labels of DIR as OUT/sft.jsonl and OUT/preferences.jsonl, by majority."""
    from fledge.core.files import write_jsonl
    from fledge.data.labelling.log import read_folder
    from fledge.data.labelling.results import export as exported

    done = exported(*read_folder(folder))
    written = {
        "sft.jsonl": write_jsonl(out / "sft.jsonl", done.sft),
        "preferences.jsonl": write_jsonl(out / "preferences.jsonl", done.preferences),
    }
    if as_json:
        told = {"out": str(out), "written": written, "counts": dict(done.counts)}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for name, count in written.items():
        click.echo(f"{count:,} rows in {out / name}")
    counts = done.counts
    click.echo(
        f"  left out: {counts['ties']:,} pairs tied, {counts['disagreements']:,} pairs without a "
        f"majority, {counts['unlabelled']:,} tasks without a label"
    )
