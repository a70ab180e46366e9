"""A config and a checkpoint in; the model to be trained, with its tokenizer, out."""

from __future__ import annotations

from pathlib import Path

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.model.checkpoint import load_model
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.config import LoopConfig
from fledge.train.device import choose_device, set_arithmetic
from fledge.train.pretrain import copy_tokenizer
from fledge.train.world import World
from fledge.tune.vocabulary import Speaker, teach_turns


def open_speaker(
    config: LoopConfig, source: Path, progress: Progress, world: World, dtype: str = "float32"
) -> Speaker:
    """The model at ``source`` on its device, and its tokenizer, with a chat template they know.

    A base model that never chatted gets ChatML; the token that ends its turns then ends answers.
    """
    model = load_model(source, dtype=dtype).train()
    try:
        speaker = teach_turns(model, Tokenizer.load(source), progress)
    except InputError as error:
        raise InputError(f"{source}: {error.message}", remedy=error.remedy) from None
    device = choose_device(config)
    set_arithmetic(speaker.model, config, device, world)
    speaker.model.to(device)
    if speaker.added:
        shape, end = speaker.model.config, speaker.tokenizer.im_end_id
        speaker.model.config = shape.model_copy(update={"eos_ids": (end, *shape.eos_ids)})
    return speaker


def write_tokenizer(speaker: Speaker, source: Path, folder: Path) -> None:
    """Put the tokenizer into a folder of weights, as it was at ``source`` or as it was taught."""
    copy_tokenizer(source, folder)
    if speaker.added or not speaker.tokenizer.has_template:
        speaker.tokenizer.save(folder)
