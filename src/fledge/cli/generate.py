"""``fledge generate``: one prompt, one answer."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from fledge.cli.chat import harmless
from fledge.cli.sampling import sampling_of, sampling_options
from fledge.client.open import is_url
from fledge.core.errors import InputError
from fledge.core.protocols import Delta, Reply
from fledge.core.types import Message


@click.command("generate")
@click.option("--model", "spec", required=True, metavar="DIR", help="Run, stage or HF directory.")
@click.option("--prompt", required=True, metavar="TEXT", help="What to read; - is stdin.")
@click.option(
    "--chat/--no-chat",
    "chat",
    default=None,
    help="Answer the prompt as a message, or continue it as text. Default: what the model learnt"
    " (a fine-tuned one lists the end of a turn, <|im_end|>, among its end tokens).",
)
@sampling_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(spec: str, prompt: str, chat: bool | None, as_json: bool, **options: Any) -> None:
    """Continue a prompt, or answer it when the model was fine-tuned to."""
    from fledge.client.local import LocalModel
    from fledge.engine.engine import load_engine

    if is_url(spec):
        raise InputError(
            f"--model {spec} is a URL", remedy="name a model on disk, or use fledge chat"
        )
    engine = load_engine(spec)
    text = sys.stdin.read() if prompt == "-" else prompt
    answers = engine.chats if chat is None else chat
    sampling = sampling_of(options)
    model = LocalModel(engine)
    start = time.monotonic()
    if answers:
        pieces = model.stream([Message(role="user", content=text)], sampling)
    else:
        pieces = model.complete(text, sampling)
    reply = _show(pieces, quiet=as_json)
    seconds = max(time.monotonic() - start, 1e-9)
    if as_json:
        click.echo(_json(_row(reply, seconds)))


def _show(pieces: Iterator[Delta], *, quiet: bool) -> Reply:
    """Write the pieces as they come; the whole reply."""
    for delta in pieces:
        if not quiet:
            click.echo(harmless(delta.text), nl=False)
        if delta.reply is not None:
            if not quiet:
                click.echo()
            return delta.reply
    raise RuntimeError("the model ended without a reply")


def _json(value: Any) -> str:
    """JSON in one line; its control characters are escaped, those too that JSON need not."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _row(reply: Reply, seconds: float) -> dict[str, Any]:
    """The JSON contract of the command."""
    return {
        "text": reply.text,
        "token_ids": list(reply.token_ids),
        "finish_reason": reply.finish_reason,
        "usage": {
            "prompt_tokens": reply.usage.prompt_tokens,
            "completion_tokens": reply.usage.completion_tokens,
        },
        "tokens_per_second": round(reply.usage.completion_tokens / seconds, 2),
    }
