"""``fledge verify``: properties that must hold, checked on the user's own checkpoint and data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fledge.cli.progress import terminal_progress

if TYPE_CHECKING:
    from fledge.train.verify.check import Check

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("verify")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--tokens", type=_FOLDER, help="Token shards, read by the real loader.")
@click.option("--tokenizer", type=_FOLDER, help="Folder with tokenizer.json; default: the model's.")
@click.option(
    "--conversations", multiple=True, type=_FILE, metavar="FILE...", help="JSONL files for SFT."
)
@click.option("--quick", is_flag=True, help="Leave out what generates code.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
@click.argument("more", nargs=-1, type=_FILE, metavar="")
def command(
    model: Path | None,
    tokens: Path | None,
    tokenizer: Path | None,
    conversations: tuple[Path, ...],
    quick: bool,
    as_json: bool,
    more: tuple[Path, ...],
) -> int:
    """Check MODEL and data by properties that must hold; without MODEL, fledge itself.

    Each check prints the numbers it compared.  Exit code 1 when one fails.
    """
    from fledge.train.verify.check import run_checks
    from fledge.train.verify.checks import CHECKS, SLOW
    from fledge.train.verify.subject import open_subject
    from fledge.tune.verify_sft import CHECKS as SFT_CHECKS

    if model is not None and model.is_file() and conversations:
        more, model = (model, *more), None  # a second file after --conversations, and no model
    if more and not conversations:
        raise click.UsageError(f"{more[0]}: name files after --conversations")
    checks = [*CHECKS, *SFT_CHECKS, *(() if quick else SLOW)]
    with tempfile.TemporaryDirectory(prefix="fledge-verify-") as scratch:
        subject = open_subject(model, tokens, tokenizer, [*conversations, *more], Path(scratch))
        found = run_checks(subject, checks, terminal_progress())
    for check in found:
        click.echo(json.dumps(vars(check), ensure_ascii=False) if as_json else line(check))
    if not as_json:
        click.echo(summary(found))
    return int(any(check.ok is False for check in found))


def line(check: Check) -> str:
    """A check for people: verdict, name, and below it what was compared."""
    words = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("skipped", "yellow")}
    word, colour = words[check.ok]
    return f"{click.style(f'{word:<8}', fg=colour)}{check.name}\n        {check.compared}"


def summary(found: Sequence[Check]) -> str:
    """How many of each."""
    ok, failed, skipped = (sum(c.ok is state for c in found) for state in (True, False, None))
    names = ", ".join(check.name for check in found if check.ok is False)
    tail = f": {names}" if names else ""
    return f"\n{ok} ok, {skipped} skipped, {failed} failed{tail}"
