"""``fledge serve``: the OpenAI-compatible API and the chat page."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from fledge.cli.adapters import load_adapters
from fledge.cli.chat import read_keys, warn_if_untaught
from fledge.cli.grounded import grounding
from fledge.cli.index_folder import INDEX
from fledge.cli.progress import terminal_progress
from fledge.client.open import open_model
from fledge.core.config import parse_config
from fledge.server.config import ServerConfig
from fledge.server.grounded import Library
from fledge.server.listen import address, serve, take_port


@click.command("serve")
@click.option("--model", "spec", required=True, metavar="DIR|URL", help="A folder, or …/v1.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: all addresses.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free."
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="Clients must send one of the keys in this file (one a line).",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=DIR",
    help="A LoRA adapter (PEFT's layout), asked for by its name.",
)
@click.option(
    "--adapter-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Clients may load adapters from this folder.",
)
@click.option(
    "--index",
    type=INDEX,
    help="Answer from the documents of this index (fledge index build), with citations.",
)
@click.option("--concurrent", type=int, default=16, show_default=True, help="Answers at a time.")
@click.option("--waiting", type=int, default=32, show_default=True, help="More may wait in line.")
def command(
    spec: str,
    host: str,
    port: int,
    api_key_file: Path | None,
    adapters: tuple[str, ...],
    adapter_folder: Path | None,
    index: Path | None,
    concurrent: int,
    waiting: int,
) -> int:
    """Serve a model at http://HOST:PORT: the chat page at /, the OpenAI-compatible API at /v1."""
    keys = read_keys(api_key_file) if api_key_file else ()
    config = parse_config(
        ServerConfig,
        {
            "api_keys": keys,
            "adapter_folder": adapter_folder,
            "concurrent": concurrent,
            "waiting": waiting,
        },
        "fledge serve",
    )
    with ExitStack() as held:
        # Before the model is read: a taken port, or a folder without an index, shows at once.
        taken = held.enter_context(take_port(host, port))
        ground = held.enter_context(grounding(index)) if index is not None else None
        model = open_model(spec, progress=terminal_progress())
        warn_if_untaught(model)
        load_adapters(model, adapters)
        note_if_open(taken, keys)
        url = address(taken)

        def ready() -> None:
            click.echo(f"{model.name}: chat page {url}/  API {url}/v1  (Ctrl-C stops)")

        return serve(model, config, taken, ready, Library(ground) if ground else None)


def note_if_open(taken: socket.socket, keys: Sequence[str]) -> None:
    """Tell the user when others than this machine's reach a server that asks for no key."""
    if not keys and not _loopback(taken.getsockname()[0]):
        click.echo("note: anyone who reaches this port can use it: --api-key-file", err=True)


def _loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
