"""``fledge reward``: a model that scores answers, from a model and pairs of answers."""

from __future__ import annotations

from typing import Any

import click

from fledge.cli.pair_options import pair_options, run_pairs


@click.command("reward")
@pair_options
def command(**options: Any) -> None:
    """Train a reward model on preferences; it is OUT/model, with one score for an answer.

    --set kind=steps learns from answers whose steps are labelled right or wrong.
    """
    run_pairs("reward", options)
