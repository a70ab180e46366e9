"""The options that say how tokens are drawn, shared by ``generate`` and ``chat``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling, Structure

Door = TypeVar("Door", bound=Callable[..., Any])

_NAMES = (
    "max_new_tokens",
    "min_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "lookup",
    "draft",
)

_OPTIONS = (
    click.option("--max-new-tokens", type=int, default=256, show_default=True),
    click.option("--min-tokens", type=int, default=0, help="Do not end before so many."),
    click.option("--temperature", type=float, default=0.0, help="0: always the likeliest."),
    click.option("--top-k", type=int, default=0, help="Draw from the k likeliest; 0: all."),
    click.option("--top-p", type=float, default=1.0, help="Draw from this much probability."),
    click.option("--min-p", type=float, default=0.0, help="Least share of the likeliest."),
    click.option("--typical-p", type=float, default=1.0, help="Nearest the expected surprise."),
    click.option("--top-n-sigma", type=float, default=0.0, help="Logits so near the largest."),
    click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: less again."),
    click.option("--presence-penalty", type=float, default=0.0, help="Above 0: more topics."),
    click.option("--frequency-penalty", type=float, default=0.0, help="Above 0: less again."),
    click.option("--seed", type=int, help="The same seed draws the same answer."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before TEXT."),
    click.option(
        "--lookup",
        type=int,
        default=0,
        help="Guess so many tokens at once from the prompt: faster.",
    ),
    click.option("--draft", type=int, default=0, help="The draft model guesses so many tokens."),
    click.option("--json-schema", metavar="FILE", help="Answer in JSON of this schema; {}: any."),
    click.option("--regex", metavar="PATTERN", help="Answer with what the pattern matches."),
    click.option("--choice", multiple=True, metavar="TEXT", help="Answer with one of the texts."),
    click.option("--grammar", metavar="FILE", help="Answer by a Lark grammar (llguidance)."),
)


def sampling_options(door: Door) -> Door:
    """Add the options; their values arrive as keywords for ``sampling_of``."""
    for option in reversed(_OPTIONS):
        door = option(door)
    return door


def sampling_of(options: dict[str, Any]) -> Sampling:
    """The ``Sampling`` that the options describe."""
    given = {name: options[name] for name in _NAMES}
    return Sampling(**given, structure=_structure(options))


def _structure(options: dict[str, Any]) -> Structure | None:
    given: list[Structure] = []
    if options["json_schema"] is not None:
        text = options["json_schema"]
        value = text if text.lstrip().startswith("{") else _read("--json-schema", text)
        given.append(Structure(kind="json_schema", value=value))
    if options["regex"] is not None:
        given.append(Structure(kind="regex", value=options["regex"]))
    if options["choice"]:
        given.append(Structure(kind="choice", value=options["choice"]))
    if options["grammar"] is not None:
        given.append(Structure(kind="lark", value=_read("--grammar", options["grammar"])))
    if len(given) > 1:
        raise InputError(
            "an answer has one form: --json-schema, --regex, --choice and --grammar exclude each"
            " other",
            remedy="leave all but one out",
        )
    return given[0] if given else None


def _read(option: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {name}: {error}", remedy="check the file") from None
