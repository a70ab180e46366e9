"""``fledge dpo``: a model that prefers as people do, from a model and pairs of answers."""

from __future__ import annotations

from typing import Any

import click

from fledge.cli.pair_options import pair_options, run_pairs


@click.command("dpo")
@pair_options
def command(**options: Any) -> None:
    """Learn from preferences (DPO, IPO, KTO, ORPO, SimPO, …); the checkpoint is OUT/model.

    --set loss=NAME chooses the method; judged answers are for loss=kto.
    """
    run_pairs("dpo", options)
