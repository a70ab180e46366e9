"""A model and prompts in, a few answers with what they earn out; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fledge.core.protocols import Progress
from fledge.train.device import arithmetic, choose_device
from fledge.tune.reinforce import Helpers, gather_cast
from fledge.tune.reinforce_batches import shown
from fledge.tune.reinforce_config import ReinforceConfig


def show_rollouts(
    config: ReinforceConfig,
    base: Path,
    files: Sequence[Path],
    count: int,
    progress: Progress,
    helpers: Helpers | None = None,
) -> Iterator[dict[str, Any]]:
    """``count`` answers, ``group`` to each of the first prompts, as rollout files hold them."""
    with arithmetic(config, choose_device(config)):
        cast = gather_cast(config, base, files, progress, helpers or Helpers())
        players = cast.players
        prompts = cast.prompts.trained[: -(-count // config.group)]
        key = (config.seed, 0, 0)
        answers = players.roller.roll(players.live.engine(), prompts, config.group, key)
        for answer in answers[:count]:
            yield shown(answer, players.judge.judge(answer.prompt, answer.said, answer.text))
