"""``fledge sandbox``: run Python that nobody vouches for, shut in."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from fledge.core.errors import InputError
from fledge.core.protocols import Execution


@click.group("sandbox")
def command() -> None:
    """Run Python that a model wrote, without files, network or processes of this machine."""


@command.command("run")
@click.argument("file", metavar="FILE")
@click.option(
    "--kind",
    type=click.Choice(["auto", "full", "monty", "bubblewrap", "landlock"]),
    default="auto",
    show_default=True,
    help="auto: the first that works, monty before the others; full: the first with all of Python.",
)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="After which the code is ended.",
)
@click.option(
    "--memory",
    "megabytes",
    type=click.IntRange(64, 1 << 20),
    default=512,
    show_default=True,
    metavar="MB",
    help="The most it may take.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def run(file: str, kind: str, seconds: float, megabytes: int, as_json: bool) -> int:
    """Run a file of Python (-: stdin) in a sandbox; exit code 1 unless it finishes.

    Shows what it printed, and on stderr how it ended. Refuses where nothing can shut it in.
    """
    from fledge.guard.limits import SandboxLimits
    from fledge.guard.sandbox import choose_sandbox

    code = _read(file)
    sandbox = choose_sandbox(kind, SandboxLimits(memory_bytes=megabytes << 20))
    try:
        done = sandbox.run(code, timeout_seconds=seconds)
    finally:
        sandbox.close()
    if as_json:
        click.echo(json.dumps({"kind": sandbox.name, **asdict(done)}, ensure_ascii=False))
    else:
        _show(done)
    return 0 if done.ending == "finished" else 1


def _read(file: str) -> str:
    """The text of a file, or of stdin."""
    try:
        with click.open_file(file, "rb") as handle:
            data: bytes = handle.read()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8: {error}", remedy="re-encode the file") from None
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is no file", remedy="check the path") from None


def _show(done: Execution) -> None:
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    if done.cut:
        click.echo("(output cut)", err=True)
    if done.ending != "finished":
        click.echo(f"{done.ending.replace('_', ' ')}: {done.error.rstrip()}", err=True)
