"""``fledge grpo`` and ``fledge ppo``: a model that earns more reward, from a model and prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fledge.cli.chat import harmless
from fledge.cli.progress import terminal_progress
from fledge.cli.single import folder_option, run_single, showing_options
from fledge.cli.stages import KINDS
from fledge.core.config import parse_config
from fledge.core.recipe import apply_override

SHOWN = 8
"""Answers that ``--show-rollouts`` prints when it is not told how many."""


def door(stage: str, purpose: str) -> click.Command:
    """The command of a stage of reinforcement learning."""

    @click.command(stage, help=purpose)
    @folder_option("model", "The model to train: a run, stage or Hugging Face folder.")
    @click.option(
        "--prompts",
        multiple=True,
        required=True,
        metavar="FILE",
        help="JSONL: messages, the answer to compare with, the verifier.",
    )
    @click.option(
        "--show-rollouts",
        type=click.IntRange(min=1),
        is_flag=False,
        flag_value=SHOWN,
        metavar="[N]",
        help=f"Print N ({SHOWN}) answers with their rewards; train nothing.",
    )
    @showing_options
    def command(
        model: Path,
        prompts: tuple[str, ...],
        show_rollouts: int | None,
        out: Path | None,
        overrides: tuple[str, ...],
        force: bool,
        as_json: bool,
    ) -> None:
        from fledge.model.locate import find_checkpoint

        values: dict[str, Any] = {"prompts": list(prompts)}
        source = find_checkpoint(model)
        if show_rollouts is not None:
            return _show(stage, source, values, overrides, show_rollouts, as_json)
        run_single(
            stage,
            {"sft": source},
            values,
            out=out,
            overrides=overrides,
            force=force,
            as_json=as_json,
        )

    return command


def _show(
    stage: str,
    source: Path,
    values: dict[str, Any],
    overrides: Sequence[str],
    count: int,
    as_json: bool,
) -> None:
    """Print ``count`` answers and what they earn."""
    from fledge.tune.reinforce_config import ReinforceConfig
    from fledge.tune.show_rollouts import show_rollouts

    for override in overrides:
        apply_override(values, override)
    config = parse_config(KINDS[stage], values, f"fledge {stage}")
    assert isinstance(config, ReinforceConfig)
    files = [Path(path) for path in config.prompts]
    rows = list(show_rollouts(config, source, files, count, terminal_progress()))
    if as_json:
        click.echo(json.dumps({"rollouts": rows}, ensure_ascii=False))
        return
    for row in rows:
        _print(row)
    mean = sum(row["reward"] for row in rows) / len(rows)
    click.echo(f"{len(rows)} answers, mean reward {mean:.3f}")


def _print(row: dict[str, Any]) -> None:
    """The question, all that was said, the answer, and what it earned for what."""
    question = harmless(row["messages"][-1]["content"])
    cut = ", cut off" if row["finish"] == "length" else ""
    click.secho(f"{row['prompt']}.{row['sample']}  {question}", bold=True)
    for message in row["said"]:
        calls = [call["function"] for call in message.get("tool_calls", ())]
        called = "".join(f" {call['name']}({call['arguments']})" for call in calls)
        click.echo(f"  {message['role']}: {harmless(message['content'])}{harmless(called)}")
    click.echo(f"  {harmless(row['answer'])}")
    scores = "; ".join(
        f"{name} {value:g}: {harmless(row['reasons'][name])}"
        for name, value in row["scores"].items()
    )
    colour = "green" if row["reward"] > 0 else "red"
    click.secho(f"  {row['reward']:g}  ({scores}; {row['tokens']} tokens{cut})\n", fg=colour)
