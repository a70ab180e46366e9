"""Texts that a model makes while it is trained, so that people see it learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.train.config import LoopConfig
from fledge.train.world import World

Write = Callable[[Decoder, Sequence[str]], list[str]]
"""(the model as it stands, prompts) -> what it makes of each; a higher floor generates."""


def writing(
    config: LoopConfig, model: Decoder, write: Write | None, world: World, progress: Progress
) -> Callable[[], list[str]] | None:
    """``Training.write``; None when nothing is asked for, or the weights are spread."""
    if write is None or not config.samples:
        return None
    if world.size > 1:
        progress.say("samples are not written while several processes train")
        return None
    return lambda: write(model, config.samples)
