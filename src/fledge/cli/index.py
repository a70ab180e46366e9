"""``fledge index``: documents into an index, kept up to date, searched, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fledge.cli.index_folder import INDEX

if TYPE_CHECKING:
    from fledge.index.build_report import BuildReport
    from fledge.index.store.filters import Filter
    from fledge.index.store.protocol import Store
    from fledge.rag.passage import Passage

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
SHOWN = 10
"""Failures told one by one."""


@click.group("index")
def command() -> None:
    """Make your documents searchable, keep the index up to date, search it, check it."""


@command.command("build")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="PATH",
    help="A file, folder, glob, archive or URL; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The index's folder, new or built before.",
)
@click.option("--embedder", metavar="SPEC", help="What makes vectors; none: words only.")
@click.option("--store", metavar="KIND", help="sqlite (default), lance or postgresql://…")
@click.option("--split", "strategy", metavar="STRATEGY", help="How documents are cut.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="split.size=300, …")
@click.option("--force", is_flag=True, help="Build anew when the settings have changed.")
@AS_JSON
def build(
    inputs: Sequence[str],
    out: Path,
    overrides: Sequence[str],
    force: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Make --out the index of the inputs: new, or brought up to date."""
    from fledge.core.config import parse_config
    from fledge.core.recipe import apply_override
    from fledge.index.config import IndexConfig

    values: dict[str, Any] = {"input": list(inputs)}
    for name in ("embedder", "store"):
        if given[name] is not None:
            values[name] = given[name]
    if given["strategy"] is not None:
        values["split"] = {"strategy": given["strategy"]}
    for override in overrides:
        apply_override(values, override)
    config = parse_config(IndexConfig, values, "fledge index build")
    return _bring_up_to_date(config, out, force=force, as_json=as_json)


@command.command("update")
@click.argument("folder", metavar="DIR", type=INDEX)
@AS_JSON
def update(folder: Path, as_json: bool) -> int:
    """Read again what has changed since DIR was built; forget what is gone."""
    from fledge.index.folder import recorded_config

    return _bring_up_to_date(recorded_config(folder), folder, force=False, as_json=as_json)


def _bring_up_to_date(config: Any, out: Path, *, force: bool, as_json: bool) -> int:
    from fledge.cli.progress import terminal_progress
    from fledge.index.embed import default_cache, open_embedder
    from fledge.index.folder import build_index
    from fledge.rag.calibration import FILE

    calibration = out / FILE
    fitted = calibration.is_file()
    embedder = open_embedder(config.embedder, cache=default_cache())
    try:
        report = build_index(config, out, embedder, force=force, progress=terminal_progress())
    finally:
        embedder.close()
    if fitted and not calibration.is_file():
        click.echo(
            "what 'fledge rag calibrate' fitted was of the former settings and is gone", err=True
        )
    if as_json:
        click.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        _show(report)
    return 0


def _show(report: BuildReport) -> None:
    sizes = report.sizes
    click.echo(
        f"{report.new:,} new, {report.changed:,} changed, {report.unchanged:,} unchanged,"
        f" {report.removed:,} removed, {len(report.failed):,} failed"
    )
    for failure in report.failed[:SHOWN]:
        evidence = f": {failure.evidence}" if failure.evidence else ""
        click.echo(f"  {failure.path}: {failure.reason}{evidence}")
    if len(report.failed) > SHOWN:
        click.echo(f"  and {len(report.failed) - SHOWN:,} more, in report.json")
    phases = ", ".join(
        f"{name} {seconds:.1f}" for name, seconds in report.seconds.items() if seconds >= 0.05
    )
    click.echo(f"{report.total_seconds:.1f} s" + (f" ({phases})" if phases else ""))
    click.echo(
        f"{report.chunks:,} chunks written, {report.embedded:,} embedded, {report.reused:,} had"
        " their vector already"
    )
    click.echo(
        f"the index holds {sizes['documents']:,} documents in {sizes['chunks']:,} chunks,"
        f" {sizes['bytes'] / 1e6:,.1f} MB"
    )
    if not sizes["documents"]:
        click.echo("nothing was found to read: check --input", err=True)


@command.command("search")
@click.argument("folder", metavar="DIR", type=INDEX)
@click.argument("query")
@click.option(
    "-k",
    "count",
    type=click.IntRange(1, 200),
    default=5,
    show_default=True,
    help="Passages.",
)
@click.option("--where", metavar="FILTER", help="Documents: lang = zh and meta.year >= 1999.")
@AS_JSON
def search(folder: Path, query: str, count: int, where: str | None, as_json: bool) -> int:
    """The passages of DIR that answer QUERY best."""
    found = _search(folder, query, count, _filter(where))
    if as_json:
        hits = [_hit(rank, passage) for rank, passage in enumerate(found, 1)]
        click.echo(json.dumps({"query": query, "hits": hits}, ensure_ascii=False))
        return 0
    for rank, passage in enumerate(found, 1):
        place = f", {passage.place}" if passage.place else ""
        click.echo(f"{rank}. {passage.path}{place} [{passage.span.start}:{passage.span.end}]")
        click.echo("   " + " ".join(passage.text.split())[:300])
    if not found:
        click.echo("nothing found", err=True)
    return 0


def _filter(where: str | None) -> Filter | None:
    from fledge.index.store.where import parse_filter

    return None if where is None else parse_filter(where)


def _search(folder: Path, query: str, count: int, where: Filter | None) -> tuple[Passage, ...]:
    from fledge.rag.grounding import opened
    from fledge.rag.passage import Query
    from fledge.rag.retrieval_config import RetrievalConfig

    with opened(folder) as grounding, grounding.store.snapshot() as snapshot:
        retriever = grounding.retriever(RetrievalConfig(k=count))
        return retriever.retrieve(snapshot, Query(text=query, where=where)).passages


def _hit(rank: int, passage: Passage) -> dict[str, Any]:
    """A passage as the contract has it."""
    return {
        "rank": rank,
        "score": round(passage.score, 6),
        "path": passage.path,
        "document": passage.span.document,
        "start": passage.span.start,
        "end": passage.span.end,
        "text": passage.text,
    }


@command.command("stats")
@click.argument("folder", metavar="DIR", type=INDEX)
@AS_JSON
def stats(folder: Path, as_json: bool) -> int:
    """How much DIR holds, and what it was made with."""
    from fledge.index.store.opening import open_store, store_kind

    store = open_store(folder)
    try:
        with store.snapshot() as snapshot:
            sizes = dict(vars(snapshot.sizes()))
        settings = store.settings()
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({**sizes, "store": store_kind(folder), "settings": settings}))
        return 0
    for name, value in sizes.items():
        click.echo(f"{name:<12} {value:>15,}")
    embedder, split = settings["embedder"], settings["split"]
    click.echo(f"embedder     {embedder['name']} ({embedder['revision'] or 'no vectors'})")
    click.echo(f"split        {', '.join(f'{key} {value}' for key, value in split.items())}")
    return 0


@command.command("verify")
@click.argument("folder", metavar="DIR", type=INDEX)
@AS_JSON
def verify(folder: Path, as_json: bool) -> int:
    """Read everything in DIR and check it: texts, spans, words, vectors.

    The exit code is 1 when something is damaged.
    """
    with _opened(folder) as store:
        problems = store.verify()
    if as_json:
        click.echo(json.dumps({"whole": not problems, "problems": problems}, ensure_ascii=False))
    else:
        for line in problems:
            click.echo(line)
        click.echo(f"{len(problems)} problems" if problems else "whole")
    return 1 if problems else 0


@command.command("compact")
@click.argument("folder", metavar="DIR", type=INDEX)
def compact(folder: Path) -> int:
    """Give back the space of what was replaced and removed."""
    with _opened(folder) as store:
        store.compact()
    return 0


@command.command("remove")
@click.argument("folder", metavar="DIR", type=INDEX)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def remove(folder: Path, ids: Sequence[str]) -> int:
    """Take documents out of DIR.  An update brings back those whose file is still there."""
    from fledge.core.errors import InputError

    with _opened(folder) as store:
        with store.snapshot() as snapshot:
            missing = [id for id in ids if snapshot.document(id) is None]
        if missing:
            raise InputError(
                f"{folder} holds no document {missing[0]!r}",
                remedy='search shows the ids, as "document"',
            )
        store.commit([], ids)
    click.echo(f"{len(ids)} removed")
    return 0


def _opened(folder: Path) -> Any:
    from contextlib import closing

    from fledge.index.store.opening import open_store

    store: Store = open_store(folder)
    return closing(store)
