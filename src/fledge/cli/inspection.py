"""How each token of an answer was drawn: as rows for JSON, and as a table to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fledge.engine.chain.inspection import Inspection, Share, StepRecord
    from fledge.engine.request import Generation
    from fledge.tokenizer.tokenizer import Tokenizer

Name = Callable[[int], str]
"""Shows a token."""

ALTERNATIVES = 3
"""Likeliest tokens in the table."""


def names_of(tokenizer: Tokenizer) -> Name:
    """Tokens as text that shows blanks and line ends."""

    def name(token: int) -> str:
        text = tokenizer.token_bytes(token, specials=True).decode("utf-8", "replace")
        return "".join(_VISIBLE.get(c, c if c.isprintable() else "\ufffd") for c in text)

    return name


_VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥"}


def inspections(made: Generation) -> list[Inspection]:
    """What was recorded, a token at a time."""
    return [choice.inspection for choice in made.choices if choice.inspection is not None]


def as_rows(made: Generation, name: Name) -> list[dict[str, Any]]:
    """One object a token."""
    return [
        {
            "token": name(seen.token),
            "id": seen.token,
            "rank": seen.rank,
            "model_probability": _short(seen.model_probability),
            "probability": _short(seen.probability),
            "grammar_allowed": seen.allowed,
            "top": _shares(seen.top, name),
            "steps": [
                {
                    "name": step.name,
                    "kept": step.kept,
                    "changed": step.changed,
                    "removed": step.removed,
                    "removed_probability": _short(step.mass),
                    "removed_likeliest": _shares(step.likeliest, name),
                }
                for step in seen.steps
            ],
        }
        for seen in inspections(made)
    ]


def as_table(made: Generation, name: Name) -> Table:
    """One line a token: what was drawn, how likely it was, what the chain removed."""
    table = Table(title="how each token was drawn", title_justify="left")
    table.add_column("token")
    for head in ("rank", "p model", "p drawn"):
        table.add_column(head, justify="right")
    table.add_column("the model's likeliest")
    table.add_column("removed by")
    for seen in inspections(made):
        table.add_row(
            Text(name(seen.token)),
            str(seen.rank),
            f"{seen.model_probability:.1%}",
            f"{seen.probability:.1%}",
            Text(
                "  ".join(f"{name(s.token)} {s.probability:.0%}" for s in seen.top[:ALTERNATIVES])
            ),
            Text(
                ", ".join(
                    _removal(step) for step in seen.steps if step.removed and step.name != "greedy"
                )
            ),
        )
    return table


def _removal(step: StepRecord) -> str:
    return f"{step.name}: {step.removed} ({step.mass:.0%})"


def _shares(shares: Iterable[Share], name: Name) -> list[dict[str, Any]]:
    return [
        {"token": name(one.token), "id": one.token, "probability": _short(one.probability)}
        for one in shares
    ]


def _short(probability: float) -> float:
    return float(f"{probability:.4g}")
