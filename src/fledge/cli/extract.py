"""``fledge extract FILE...``: the main text of pages, as the corpus stage would read them."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("extract")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a document.")
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """Print title and main text of FILES (HTML, WARC, text, ...; archives hold many)."""
    from fledge.data.preview import extract_file

    for file in files:
        for row in extract_file(file):
            if as_json:
                click.echo(json.dumps(row, ensure_ascii=False))
                continue
            state = f"dropped: {row['dropped']}" if row["dropped"] else row["language"]
            click.echo(f"== {row['path']} [{state}] {row['title']}\n{row['text']}\n")
