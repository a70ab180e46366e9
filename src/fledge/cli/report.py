"""``fledge report RUN``: write report.html and report.json of a run again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fledge.core.files import read_json


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The figures as one JSON object on stdout.")
def command(run: Path, as_json: bool) -> None:
    """Gather the stages of RUN (a run directory), finished or not, in one page."""
    from fledge.report.run_report import REPORT, write_report

    page = write_report(run)
    if as_json:
        click.echo(json.dumps(read_json(run / REPORT)["figures"], ensure_ascii=False))
    else:
        click.echo(str(page))
