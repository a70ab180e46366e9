"""``fledge generate``: one prompt, one answer."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from fledge.cli.chat import harmless
from fledge.cli.inspection import as_rows, as_table, names_of
from fledge.cli.progress import terminal_progress
from fledge.cli.sampling import sampling_of, sampling_options
from fledge.client.open import is_url
from fledge.core.errors import InputError
from fledge.core.types import Message

if TYPE_CHECKING:
    from fledge.engine.request import Generation, Token


DRAFT = 4
"""Tokens a draft model guesses at a time when nothing is said."""


@click.command("generate")
@click.option(
    "--model", "spec", required=True, metavar="DIR", help="Run, stage or HF directory, or GGUF."
)
@click.option("--prompt", required=True, metavar="TEXT", help="What to read; - is stdin.")
@click.option(
    "--chat/--no-chat",
    "chat",
    default=None,
    help="Answer the prompt as a message, or continue it as text. Default: what the model learnt"
    " (a fine-tuned one lists the end of a turn, <|im_end|>, among its end tokens).",
)
@sampling_options
@click.option(
    "--draft-model",
    metavar="DIR",
    help="A smaller model of the same tokenizer that guesses ahead; self: skips layers.",
)
@click.option("--adapter", metavar="DIR", help="A LoRA adapter of the model (PEFT's layout).")
@click.option("--inspect", is_flag=True, help="Show how each token was drawn.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    spec: str,
    prompt: str,
    chat: bool | None,
    draft_model: str | None,
    adapter: str | None,
    inspect: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Continue a prompt, or answer it when the model was fine-tuned to."""
    from fledge.client.local import LocalModel
    from fledge.engine.chain.settings import Settings
    from fledge.engine.loading import load_engine

    if is_url(spec):
        raise InputError(
            f"--model {spec} is a URL", remedy="name a model on disk, or use fledge chat"
        )
    if draft_model is not None and not options["draft"]:
        options["draft"] = DRAFT
    sampling = sampling_of(options)
    engine = load_engine(spec, draft=draft_model, progress=terminal_progress())
    text = sys.stdin.read() if prompt == "-" else prompt
    answers = engine.chats if chat is None else chat
    model = LocalModel(engine)
    ids = model.prompt([Message(role="user", content=text)]) if answers else model.text_prompt(text)
    settings = replace(Settings.of(sampling), inspect=inspect)
    start = time.monotonic()
    if adapter is not None:
        engine.adapters.load("adapter", adapter)
    named = "" if adapter is None else "adapter"
    made = _show(engine.stream(ids, settings, adapter=named), quiet=as_json)
    seconds = max(time.monotonic() - start, 1e-9)
    if as_json:
        more = {"inspection": as_rows(made, names_of(engine.tokenizer))} if inspect else {}
        click.echo(_json({**_row(made, seconds), **more}))
    elif inspect:
        Console().print(as_table(made, names_of(engine.tokenizer)))


def _show(tokens: Iterator[Token], *, quiet: bool) -> Generation:
    """Write the text as it comes; the whole generation."""
    for token in tokens:
        if not quiet:
            click.echo(harmless(token.text), nl=False)
        if token.generation is not None:
            if not quiet:
                click.echo()
            return token.generation
    raise RuntimeError("the model ended without a generation")


def _json(value: Any) -> str:
    """JSON in one line; its control characters are escaped, those too that JSON need not."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _row(made: Generation, seconds: float) -> dict[str, Any]:
    """The JSON contract of the command."""
    drawn = len(made.token_ids)
    return {
        "text": made.text,
        "token_ids": list(made.token_ids),
        "finish_reason": made.finish_reason,
        "usage": {"prompt_tokens": made.prompt_tokens, "completion_tokens": drawn},
        "speculation": {"drafted": made.drafted, "accepted": made.accepted},
        "tokens_per_second": round(drawn / seconds, 2),
    }
