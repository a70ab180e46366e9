"""The options that say how tokens are drawn, shared by ``generate`` and ``chat``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fledge.core.protocols import Sampling

Door = TypeVar("Door", bound=Callable[..., Any])

_NAMES = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
)


def sampling_options(door: Door) -> Door:
    """Add the options; their values arrive as keywords for ``sampling_of``."""
    for option in (
        click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before TEXT."),
        click.option("--seed", type=int, help="The same seed draws the same answer."),
        click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: less again."),
        click.option("--min-p", type=float, default=0.0, help="Least share of the likeliest."),
        click.option("--top-p", type=float, default=1.0, help="Draw from this much probability."),
        click.option("--top-k", type=int, default=0, help="Draw from the k likeliest; 0: all."),
        click.option("--temperature", type=float, default=0.0, help="0: always the likeliest."),
        click.option("--max-new-tokens", type=int, default=256, show_default=True),
    ):
        door = option(door)
    return door


def sampling_of(options: dict[str, Any]) -> Sampling:
    """The ``Sampling`` that the options describe."""
    return Sampling(**{name: options[name] for name in _NAMES})
